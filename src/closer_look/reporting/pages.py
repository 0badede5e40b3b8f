"""Jinja2, as every page of the project is rendered: texts of rows and models are escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2


def page_environment() -> jinja2.Environment:
    """Create the environment of the templates in this folder."""
    import jinja2

    return jinja2.Environment(
        loader=jinja2.PackageLoader("closer_look.reporting", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
