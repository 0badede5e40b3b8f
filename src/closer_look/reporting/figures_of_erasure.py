"""The figure of requests to forget, from the lines of their ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from closer_look.reporting import drawing as draw

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from closer_look.erasure.ledger import Line

KEPT, FORGOTTEN = "Model utility", "Forget efficacy of each request"
STYLES = {
    "served": draw.Style("#1F7FC4", "circle", "solid"),
    "asked again": draw.Style(draw.GREY, "circle-open", "dot", 1),
    "rolled back": draw.Style("#28A862", "diamond", "solid"),
    "came back": draw.Style("#D55E00", "x", "solid"),
}
"""What a mark stands for -> its look."""


def time_line(lines: Sequence[Line]) -> go.Figure:
    """Draw what is kept and how well each request is forgotten, along the lines of the ledger.

    Args:
        lines: of the ledger.

    Returns:
        A figure without data if no request was served.
    """
    figure = draw.panels("Requests to forget", [KEPT, FORGOTTEN], width=330)
    found = pd.DataFrame(_marks(lines))
    if not len(found):
        return figure
    of_requests = found[found["panel"] == 1]
    for _, rows in of_requests.groupby("request_id"):
        _add(figure, rows, STYLES["asked again"], mode="lines", error_y=None, hoverinfo="skip")
    for kind, style in STYLES.items():
        for panel, rows in found[found["kind"] == kind].groupby("panel"):
            mode = "lines+markers" if (kind, panel) == ("served", 0) else "markers"
            is_named = panel == 1 or kind == "rolled back"
            _add(figure, rows, style, mode=mode, name=kind, showlegend=is_named)
    last = lines[-1].index
    figure.update_xaxes(title="Line of the ledger", range=[0, last + 1])
    return figure.update_yaxes(range=[0, 1.04], dtick=0.2)


def _marks(lines: Sequence[Line]) -> Iterator[dict[str, Any]]:
    """List what was measured: line, request, value with its interval, panel, and kind of mark."""
    utilities = {}
    for line in lines:
        head = {"line": line.index, "request_id": line.request_id}
        if line.kind == "served":
            after = line.numbers["after"]
            utilities[line.model_after] = after["model_utility"]
            yield head | _value(after["model_utility"]) | {"panel": 0, "kind": "served"}
            yield head | _value(after["forget_efficacy"]) | {"panel": 1, "kind": "served"}
        if line.kind == "rolled_back" and line.model_after in utilities:
            head["request_id"] = "earlier model"
            yield head | _value(utilities[line.model_after]) | {"panel": 0, "kind": "rolled back"}
        for one in line.rechecked:
            if one["forget_efficacy"] is not None:
                head["request_id"] = one["request_id"]
                kind = "came back" if one["came_back"] else "asked again"
                yield head | _value(one["forget_efficacy"]) | {"panel": 1, "kind": kind}


def _value(number: Mapping[str, Any]) -> dict[str, float]:
    value = number["value"]
    bounds = {f"ci_{name}": number.get(name, value) for name in ("low", "high")}
    return {"value": value} | bounds


def _add(figure: go.Figure, rows: pd.DataFrame, style: draw.Style, **options: Any) -> None:
    heads = [
        f"{row.request_id}, line {row.line}, {row.kind}" for row in rows.itertuples(index=False)
    ]
    figure.add_scatter(
        **{
            "x": rows["line"].tolist(),
            "y": rows["value"].tolist(),
            "error_y": draw.intervals(rows),
            "customdata": draw.described(rows, heads),
            "hovertemplate": "%{customdata}<extra></extra>",
            "line": {"color": style.colour, "dash": style.dash, "width": style.width},
            "marker": draw.marker(style, 8),
            "showlegend": False,
            **draw.axes(int(rows["panel"].iloc[0])),
            **options,
        }
    )
