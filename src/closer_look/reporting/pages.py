"""Pages and cards, by Jinja2: in HTML, the texts of rows and models are escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2


@cache
def page_template(name: str, **filters: Callable[..., Any]) -> jinja2.Template:
    """Return a template of this folder, compiled once in a process.

    Args:
        name: of its file; but in Markdown (``.md.jinja``), texts are escaped.
        filters: what it calls behind a ``|``.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("closer_look.reporting", "."),
        autoescape=jinja2.select_autoescape(disabled_extensions=["md.jinja"], default=True),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def number_text(number: Mapping[str, Any] | None) -> str:
    """Write a number of the ledger with its 95 % interval, if it has one; "" if there is none."""
    if number is None:
        return ""
    low, high = number.get("low"), number.get("high")
    interval = "" if low is None or high is None else f" ({low:.3f} to {high:.3f})"
    return f"{number['value']:.3f}{interval}"
