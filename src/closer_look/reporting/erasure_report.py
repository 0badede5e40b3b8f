"""The report of requests to forget: the time line of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from closer_look.erasure.chain import read_chain
from closer_look.reporting.pages import number_text, page_template

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from closer_look.erasure.ledger import Line


def render_erasure(lines: Sequence[Line], time_line: go.Figure) -> str:
    """Render the ledger as one file of HTML that loads nothing.

    Args:
        lines: of the ledger.
        time_line: figure of them; left out if it has no data.
    """
    chain = read_chain(lines)
    options = {"full_html": False, "include_plotlyjs": True, "config": {"displayModeBar": False}}
    return page_template("erasure_report.html.jinja", number=number_text).render(
        lines=lines,
        chain=chain,
        figure=time_line.update_layout(title=None).to_html(**options) if time_line.data else None,
        n_served=sum(line.kind == "served" for line in chain.decided.values()),
    )
