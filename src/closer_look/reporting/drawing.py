"""Shared parts of the figures: colours, marks, panels, intervals.

Kedro-viz and the report set the colours of text and background, for light and dark. A figure made
of panels states their smallest size in ``layout.meta``, so that the report can put them below each
other on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from closer_look.data.cells import BEFORE, RETAIN_ONLY
from closer_look.reporting.wording import BEFORE_LABEL, RETAIN_ONLY_LABEL

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Any two of these and the grey can be distinguished with any colour vision, on white and on black.
COLOURS = ("#1F7FC4", "#D55E00", "#28A862", "#8C81FF", "#995B30", "#855588")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x", "cross")
FILLINGS = (("", "solid"), ("-open", "dash"), ("-open-dot", "dot"))
GREY = "#868686"
DARK_TEXT = "#1D2126"
GRID = "rgba(128,128,128,0.22)"
MANY = 12
"""With more methods than this, no panel shows them all with lines of their own."""
BETWEEN_ROWS = 90  # px, for tick labels, an axis title and the title of the panel below


class Style(NamedTuple):
    """The look of a method or model, the same in every figure."""

    colour: str
    symbol: str
    dash: str
    width: float = 2


class Reference(NamedTuple):
    """A model that methods are compared with: its label, meaning and style."""

    label: str
    meaning: str
    style: Style


REFERENCES = {
    BEFORE: Reference(BEFORE_LABEL, "before unlearning", Style(GREY, "star", "dot", 1.5)),
    RETAIN_ONLY: Reference(
        RETAIN_ONLY_LABEL,
        "never trained on what is forgotten",
        Style(GREY, "star-open", "dash", 1.5),
    ),
}
"""Models to compare with; every run has the first."""


def styles(labels: Mapping[str, str]) -> dict[str, Style]:
    """Give each method a style from its label, such as GA+KL.

    Colour and shape stand for the forget loss, filling and dash for the retain loss. What follows
    a comma, as in "ME+GD, DualOptim", makes another forget loss.
    """
    losses = {}
    for method, label in labels.items():
        forget, _, retain = label.partition("+")
        retain, comma, way = retain.partition(",")
        losses[method] = (forget + comma + way, retain)
    retain_losses = dict.fromkeys(retain for _, retain in losses.values() if retain)
    if len(retain_losses) > len(FILLINGS):
        losses, retain_losses = {method: (label, "") for method, label in labels.items()}, {}
    forget_losses = dict.fromkeys(forget for forget, _ in losses.values())
    # 6 colours and 7 shapes: 42 pairs before one repeats.
    colours = dict(zip(forget_losses, cycle(COLOURS), strict=False))
    symbols = dict(zip(forget_losses, cycle(SYMBOLS), strict=False))
    fillings = {"": FILLINGS[0]} | dict(zip(retain_losses, FILLINGS, strict=False))
    styles = {}
    for method, (forget, retain) in losses.items():
        filling, dash = fillings[retain]
        styles[method] = Style(colours[forget], symbols[forget] + filling, dash)
    return styles


def references(table: pd.DataFrame) -> list[str]:
    """List the models to compare with that a table contains."""
    methods = set(table["method"])
    return [name for name in REFERENCES if name in methods]


def looks(table: pd.DataFrame, labels: Mapping[str, str]) -> dict[str, tuple[str, Style]]:
    """Return label and style of the models to compare with, then of the methods."""
    looks = {name: (REFERENCES[name].label, REFERENCES[name].style) for name in references(table)}
    of_methods = styles(labels).items()
    return looks | {method: (as_text(labels[method]), style) for method, style in of_methods}


def as_text(label: str) -> str:
    """Write a label so that plotly, which understands some HTML, shows what it is."""
    return escape(label, quote=False)


def marker(style: Style, size: float | list[float]) -> dict[str, object]:
    """Make markers of one size (px), or a list of sizes."""
    # A hollow marker is only an outline; full markers get the same outline to be as large.
    outline = {"width": 1.6, "color": style.colour}
    return {"color": style.colour, "symbol": style.symbol, "size": size, "line": outline}


def short(value: float) -> str:
    """Format a value with two decimals for a small cell: .84."""
    return "" if pd.isna(value) else f"{value:.2f}".removeprefix("0")


def spread(n: int, most: float) -> list[float]:
    """Compute shifts that keep the intervals of n methods from overlapping."""
    step = min(0.16, most / n)
    return [step * (position - (n - 1) / 2) for position in range(n)]


def add_line(
    figure: go.Figure,
    panel: int,
    x: Sequence[float],
    rows: pd.DataFrame,
    *,
    label: str,
    style: Style,
) -> None:
    """Draw values with their intervals against ``x``, in one panel."""
    figure.add_scatter(
        x=list(x),
        y=rows["value"].tolist(),
        error_y=intervals(rows),
        customdata=described(rows, moments(rows)),
        hovertemplate="%{customdata}",
        name=as_text(label),
        legendgroup=as_text(label),
        showlegend=panel == 0,
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": style.width},
        marker=marker(style, 8),
        **axes(panel),
    )


def add_seeds(
    figure: go.Figure,
    panel: int,
    x: Sequence[float],
    rows: pd.DataFrame,
    label: str,
    style: Style,
) -> None:
    """Draw the values of each seed as small marks against ``x``, in one panel."""
    texts = [
        f"seed {row.seed}, after task {row.after_task}: {row.value:.3f}"
        for row in rows.itertuples()
    ]
    figure.add_scatter(
        x=list(x),
        y=rows["value"].tolist(),
        customdata=texts,
        hovertemplate="%{customdata}",
        name=as_text(label),
        legendgroup=as_text(label),
        showlegend=False,
        mode="markers",
        marker={"color": style.colour, "symbol": "line-ew-open", "size": 9, "line": {"width": 1}},
        **axes(panel),
    )


def moments(rows: pd.DataFrame) -> list[str]:
    """Describe when each row was measured: after which task, or on which model to compare with."""
    return [
        f"after task {task}" if task else REFERENCES[method].meaning
        for method, task in zip(rows["method"], rows["after_task"], strict=True)
    ]


def intervals(rows: pd.DataFrame) -> dict[str, object]:
    """Make whiskers from ``ci_low`` to ``ci_high``."""
    # The bootstrap interval of a skewed quantity may not contain the value itself.
    return {
        "array": (rows["ci_high"] - rows["value"]).clip(lower=0).tolist(),
        "arrayminus": (rows["value"] - rows["ci_low"]).clip(lower=0).tolist(),
        "thickness": 1.2,
        "width": 3,
    }


def described(rows: pd.DataFrame, heads: Sequence[str]) -> list[str]:
    """Write each value with its intervals after a heading, for the hover box."""
    return [
        f"{as_text(head)}: {row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]{_of_seeds(row)}"
        for head, row in zip(heads, rows.itertuples(), strict=True)
    ]


def _of_seeds(row: Any) -> str:
    if pd.isna(getattr(row, "seed_low", None)):
        return ""
    return f"<br>over {row.n_seeds} seeds [{row.seed_low:.3f}, {row.seed_high:.3f}]"


def mark_tasks(figure: go.Figure, panel: int, log: pd.DataFrame) -> None:
    """Draw vertical lines between tasks."""
    last_steps = log.groupby("after_task").size().cumsum().tolist()
    own = axes(panel)
    for step in last_steps[:-1]:
        figure.add_shape(
            type="line",
            x0=step + 0.5,
            x1=step + 0.5,
            y0=0,
            y1=1,
            xref=own["xaxis"],
            yref=f"{own['yaxis']} domain",
            line={"color": GREY, "width": 1, "dash": "dot"},
        )


def axes(panel: int) -> dict[str, str]:
    """Return plotly's names for the axes of a panel, counted from 0."""
    number = str(panel + 1) if panel else ""
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def panels(
    title: str, titles: Sequence[str], width: int, height: int = 320, gap: int = 60
) -> go.Figure:
    """Create a figure of empty panels in two to four columns, filled row by row.

    Args:
        title: title of the figure.
        titles: titles of the panels; line breaks are kept.
        width: smallest width of a panel with its gap, px.
        height: height of a panel, px.
        gap: space between columns for the tick labels, px.
    """
    from plotly.subplots import make_subplots

    n_panels = len(titles)
    n_columns = min(max(n_panels, 1), 2 if n_panels <= 4 else 3 if n_panels <= MANY else 4)
    n_rows = -(-n_panels // n_columns)
    inner_height = n_rows * height + (n_rows - 1) * BETWEEN_ROWS
    cells = [
        [{} if row * n_columns + column < n_panels else None for column in range(n_columns)]
        for row in range(n_rows)
    ]
    figure = make_subplots(
        rows=n_rows,
        cols=n_columns,
        specs=cells,
        subplot_titles=[as_text(panel).replace("\n", "<br>") for panel in titles],
        horizontal_spacing=gap / 700 if n_columns > 1 else 0,
        vertical_spacing=BETWEEN_ROWS / inner_height if n_rows > 1 else 0,
    )
    figure.update_annotations(font={"size": 12})
    axis = {"gridcolor": GRID, "linecolor": GRID, "zerolinecolor": GRID, "automargin": True}
    axis |= {"tickfont": {"size": 11}, "title": {"font": {"size": 11}, "standoff": 8}}
    figure.layout.template = {"layout": {"xaxis": axis, "yaxis": axis}}  # in place of plotly's own
    clear = "rgba(0,0,0,0)"
    return figure.update_layout(
        paper_bgcolor=clear,
        plot_bgcolor=clear,
        title={"text": title, "font": {"size": 15}},
        font={"size": 12},
        margin={"t": 80, "l": 55, "r": 15, "b": 60},
        height=inner_height + 180,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        meta={"n_panels": n_panels, "width": width, "height": height, "gap": gap},
    )
