"""Jinja2, as every page of the project is rendered: texts of rows and models are escaped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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


def number_text(number: Mapping[str, Any] | None) -> str:
    """Write a number of the ledger with its 95 % interval, if it has one; "" if there is none."""
    if number is None:
        return ""
    low, high = number.get("low"), number.get("high")
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{number['value']:.3f}{interval}"
