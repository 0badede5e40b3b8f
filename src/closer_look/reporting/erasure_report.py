"""The report of requests to forget: the time line of the ledger."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from closer_look.erasure.chain import read_chain
from closer_look.reporting.pages import page_environment

if TYPE_CHECKING:
    from closer_look.erasure.ledger import Line


def render_erasure(lines: Sequence[Line]) -> str:
    """Render the time line as HTML that loads nothing and runs nothing."""
    chain = read_chain(lines)
    environment = page_environment()
    environment.filters["number"] = _number
    return environment.get_template("erasure_report.html.jinja").render(
        lines=lines,
        chain=chain,
        n_served=sum(line.kind == "served" for line in chain.decided.values()),
    )


def _number(number: Mapping[str, Any] | None) -> str:
    if not number:
        return ""
    interval = f" ({number['low']:.3f} to {number['high']:.3f})" if "low" in number else ""
    return f"{number['value']:.3f}{interval}"
