"""Figures of more methods than can share a panel: each has its own, or a row, or its name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.data.cells import BEFORE
from closer_look.metrics import Metric
from closer_look.reporting import drawing as draw
from closer_look.reporting.labelling import place_names
from closer_look.reporting.results import current_tasks, final_metrics, utility
from closer_look.reporting.wording import SPLIT_LABELS

if TYPE_CHECKING:
    import plotly.graph_objects as go

UTILITY_STYLE = draw.Style(draw.COLOURS[0], "circle", "solid")
EFFICACY_STYLE = draw.Style(draw.COLOURS[1], "square-open", "dash")
LOW_TO_HIGH = ((0, "#F4F1EA"), (0.5, "#C9DAE6"), (1, "#4F93C9"))
NAMED_PLOT = (620, 540)
"""Least size of a plot whose marks have names, px."""


def curves(title: str, summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw MU and FE against the number of tasks unlearned, a panel per method."""
    figure = draw.panels(title, list(labels.values()), width=170, height=150, gap=40)
    n_tasks = len(current_tasks(summary, BEFORE))
    before = utility(summary, BEFORE)
    for panel, method in enumerate(labels):
        for name in draw.references(summary):
            label, meaning, style = draw.REFERENCES[name]
            level = utility(summary, name)["value"].item()
            figure.add_scatter(
                x=[0, n_tasks],
                y=[level, level],
                name=f"MU, {label.lower()}",
                legendgroup=name,
                showlegend=panel == 0,
                mode="lines",
                line={"color": style.colour, "dash": style.dash, "width": style.width},
                hovertemplate=f"{meaning}: %{{y:.3f}}",
                **draw.axes(panel),
            )
        kept = pd.concat([before, utility(summary, method)])
        known = current_tasks(summary, method)
        for label, rows, style in (("MU", kept, UTILITY_STYLE), ("FE", known, EFFICACY_STYLE)):
            draw.add_line(figure, panel, rows["after_task"], rows, label=label, style=style)
    figure.update_xaxes(dtick=1, range=[-0.3, n_tasks + 0.3])
    return figure.update_yaxes(range=[0, 1.04], dtick=0.5)


def name_marks(figure: go.Figure, upper: float) -> go.Figure:
    """Write the name of each trace beside its last mark, where there is room.

    Args:
        figure: one panel, whose axes both run from 0 to ``upper``.
        upper: end of both axes.
    """
    named = [trace for trace in figure.data if not pd.isna(trace.x[-1] + trace.y[-1])]
    width, height = NAMED_PLOT
    marks = [(t.x[-1] / upper * width, t.y[-1] / upper * height) for t in named]
    for trace, place in zip(
        named, place_names(marks, [trace.name for trace in named], width, height), strict=True
    ):
        if place is not None:
            figure.add_annotation(
                x=trace.x[-1],
                y=trace.y[-1],
                ax=place[0],
                ay=-place[1],
                text=trace.name,
                font={"size": 11},
                showarrow=True,
                arrowhead=0,
                arrowwidth=0.8,
                arrowcolor=draw.GREY,
                standoff=6,
            )
    figure.layout.meta["named"] = width
    return figure


def metric_values(
    title: str, metrics: pd.DataFrame, labels: Mapping[str, str], records: Mapping[str, Metric]
) -> go.Figure:
    """Draw each metric on each split, a panel per split, a row per method, a column per metric."""
    splits = [split for split in SPLIT_LABELS if split in set(metrics["split"])]
    rows = {method: label for method, (label, _) in draw.looks(metrics, labels).items()}
    values = {method: final_metrics(metrics, method) for method in rows}
    height, width = 40 + 22 * len(rows), 190 + 36 * len(records)
    panels = [SPLIT_LABELS[split] for split in splits]
    figure = draw.panels(title, panels, width=width, height=height, gap=150)
    for panel, split in enumerate(splits):
        measured = pd.DataFrame(
            {
                method: table[table["split"] == split].set_index("metric")["value"]
                for method, table in values.items()
            }
        )
        matrix = measured.reindex(list(records)).dropna(how="all").T
        figure.add_heatmap(
            x=[draw.as_text(records[metric].label) for metric in matrix],
            y=list(rows.values()),
            z=[[None if pd.isna(cell) else cell for cell in row] for row in matrix.to_numpy()],
            zmin=0,
            zmax=1,
            colorscale=LOW_TO_HIGH,
            showscale=False,
            xgap=1,
            ygap=1,
            text=[[draw.short(cell) for cell in row] for row in matrix.to_numpy()],
            texttemplate="%{text}",
            textfont={"size": 10, "color": draw.DARK_TEXT},
            hoverongaps=False,
            hovertemplate="%{y}<br>%{x} %{z:.3f}<extra></extra>",
            **draw.axes(panel),
        )
    figure.update_xaxes(type="category", tickangle=-35, showgrid=False)
    return figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
