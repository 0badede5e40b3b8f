"""The project's figures, one function each: tables of a run in, plotly figures out.

Colours of text and background are left to whoever shows a figure (kedro-viz, the report), in light
or dark. A figure made of panels says in ``layout.meta`` how small they may get, so that the report
can put them below each other on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from closer_look.metrics import forget_quality
from closer_look.results import (
    BEFORE,
    RETAIN_ONLY,
    average_tasks,
    current_tasks,
    efficacy,
    final_metrics,
    utility,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Any two of them and the grey are told apart with any colour vision, on white and on black.
COLOURS = ("#1F7FC4", "#D55E00", "#28A862", "#8C81FF", "#995B30", "#855588")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x", "cross")
FILLINGS = (("", "solid"), ("-open", "dash"), ("-open-dot", "dot"))
GREY = "#868686"
DARK_TEXT = "#1D2126"
GRID = "rgba(128,128,128,0.22)"
BETWEEN_ROWS = 90  # px, for tick labels, an axis title and the title of the panel below
DRAWN_RATIOS = (1e-8, 1e8)  # truth ratios of a broken model may be 0 or infinite
REMEMBERED_TO_FORGOTTEN = ((0, "#FBE6C5"), (0.5, "#C9DAE6"), (1, "#4F93C9"))

UTILITY, EFFICACY = "Model utility (MU)", "Forget efficacy (FE)"
BEFORE_LABEL, RETAIN_ONLY_LABEL = "Before", "Retain-only"
SPLIT_LABELS = {
    "forget": "Forget set",
    "retain": "Retain set",
    "neighbour": "Neighbours",
    "real_authors": "Real authors",
    "world_facts": "World facts",
}
METRIC_LABELS = {
    "rouge": "ROUGE-L",
    "probability": "Probability",
    "truth_ratio": "Truth ratio",
    "cosine_similarity": "Cosine",
    "entailment": "Entailment",
    "token_entropy": "Entropy",
}


class _Style(NamedTuple):
    colour: str
    symbol: str
    dash: str
    width: float = 2


class _Reference(NamedTuple):
    label: str
    meaning: str
    style: _Style


REFERENCES = {
    BEFORE: _Reference(BEFORE_LABEL, "before unlearning", _Style(GREY, "star", "dot", 1.5)),
    RETAIN_ONLY: _Reference(
        RETAIN_ONLY_LABEL,
        "never trained on what is forgotten",
        _Style(GREY, "star-open", "dash", 1.5),
    ),
}
"""Models to compare with; no run lacks the first."""


def curves(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """MU and FE against the number of tasks unlearned, a line a method, with intervals."""
    figure = _panels("Kept and forgotten, task by task", [UTILITY, EFFICACY], width=330)
    n_tasks = len(current_tasks(summary, BEFORE))
    for name in _references(summary):
        label, _, style = REFERENCES[name]
        kept, known = utility(summary, name), current_tasks(summary, name)
        constant = kept.loc[kept.index.repeat(n_tasks + 1)]
        _add_line(figure, 0, range(n_tasks + 1), constant, label=label, style=style)
        _add_line(figure, 1, known["task_id"], known, label=label, style=style)
    shifts = _spread(len(labels), most=0.64)
    for (method, style), shift in zip(_styles(labels).items(), shifts, strict=True):
        kept = pd.concat([utility(summary, BEFORE), utility(summary, method)])
        for panel, rows in enumerate((kept, current_tasks(summary, method))):
            x = rows["after_task"] + shift * (rows["after_task"] > 0)
            _add_line(figure, panel, x, rows, label=labels[method], style=style)
    figure.update_xaxes(title="Tasks unlearned", dtick=1, range=[-0.4, n_tasks + 0.4])
    return figure.update_yaxes(range=[0, 1.04])


def trade_off(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """MU against FE over all tasks so far; the upper right corner is where one wants to be."""
    figure = _panels("MU against FE over all tasks so far", [""], width=330, height=440)
    for method, (label, style) in _looks(summary, labels).items():
        kept = utility(summary, method)
        cells = efficacy(summary, method).groupby("after_task")
        forgotten = pd.DataFrame([average_tasks(tasks) for _, tasks in cells])
        n_points = len(kept)
        sizes = [13 if n_points == 1 else 7 + 7 * n / (n_points - 1) for n in range(n_points)]
        figure.add_scatter(
            x=forgotten["value"].tolist(),
            y=kept["value"].tolist(),
            customdata=_moments(kept),
            hovertemplate="%{customdata}<br>MU %{y:.3f}, FE %{x:.3f}",
            name=label,
            legendgroup=method,
            mode="lines+markers",
            line={"color": style.colour, "width": 1.5, "dash": style.dash},
            marker=_marker(style, sizes) | {"opacity": 1},
        )
    figure.update_xaxes(title=EFFICACY, range=[0, 1.04], dtick=0.2)
    return figure.update_yaxes(title=UTILITY, range=[0, 1.04], dtick=0.2)


def forgetting_matrix(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """FE of every task's forget set (rows) after every task (columns), a panel a method.

    A cell that pales to the right shows knowledge that comes back.
    """
    before = efficacy(summary, BEFORE)
    n_tasks = len(before)
    panels = list(labels.values())
    height, width = 110 + 34 * n_tasks, max(280, 34 * (n_tasks + 1))
    figure = _panels("FE of task (row) after task (column)", panels, width=width, height=height)
    for panel, method in enumerate(labels):
        cells = pd.concat([before, efficacy(summary, method)])
        matrix = cells.pivot(index="task_id", columns="after_task", values="value")
        figure.add_heatmap(
            x=[str(task) for task in matrix.columns],
            y=[str(task) for task in matrix.index],
            z=[[None if pd.isna(cell) else cell for cell in row] for row in matrix.to_numpy()],
            zmin=0,
            zmax=1,
            colorscale=REMEMBERED_TO_FORGOTTEN,
            showscale=False,
            xgap=2,
            ygap=2,
            text=[[_short(cell) for cell in row] for row in matrix.to_numpy()],
            texttemplate="%{text}",
            textfont={"size": 12 if n_tasks <= 5 else 10, "color": DARK_TEXT},
            hoverongaps=False,
            hovertemplate="task %{y}, tasks unlearned: %{x}<br>FE %{z:.3f}<extra></extra>",
            **_axes(panel),
        )
    figure.update_yaxes(autorange="reversed")
    figure.update_yaxes(type="category", showgrid=False, ticks="")
    return figure.update_xaxes(type="category", showgrid=False, ticks="")


def metric_values(metrics: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Each metric on each split, before and after the last task of each method."""
    looks = _looks(metrics, labels)
    measured = {method: final_metrics(metrics, method) for method in looks}
    splits = [split for split in SPLIT_LABELS if split in set(measured[BEFORE]["split"])]
    height = 90 + len(METRIC_LABELS) * max(28, 11 * len(looks))
    panels = [SPLIT_LABELS[split] for split in splits]
    figure = _panels("Every metric, before and after", panels, width=320, height=height, gap=90)
    order = {metric: position for position, metric in enumerate(METRIC_LABELS)}
    shifts = _spread(len(looks), most=0.78)
    for (method, (label, style)), shift in zip(looks.items(), shifts, strict=True):
        for panel, split in enumerate(splits):
            rows = measured[method]
            rows = rows[(rows["split"] == split) & rows["metric"].isin(order)]
            figure.add_scatter(
                x=rows["value"].tolist(),
                y=(rows["metric"].map(order) + shift).tolist(),
                error_x=_intervals(rows),
                customdata=_described(rows, [METRIC_LABELS[metric] for metric in rows["metric"]]),
                hovertemplate="%{customdata}",
                name=label,
                legendgroup=method,
                showlegend=panel == 0,
                mode="markers",
                marker=_marker(style, 8),
                **_axes(panel),
            )
    figure.update_xaxes(range=[-0.03, 1.04], dtick=0.25, tickformat=".2~f")
    return figure.update_yaxes(
        tickvals=list(order.values()),
        ticktext=list(METRIC_LABELS.values()),
        range=[len(order) - 0.5, -0.5],
        zeroline=False,
    )


def truth_ratios(row_metrics: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Cumulative share of the forgotten rows by truth ratio, a panel a method.

    Where there is a retain-only model, a panel's title has the p-value of the Kolmogorov-Smirnov
    test between the method and it, over the rows of all tasks.
    """
    forget = row_metrics[row_metrics["split"] == "forget"]
    ratios = forget.pivot(index="row_id", columns="method", values="truth_ratio").dropna()
    titles = dict(labels)
    if RETAIN_ONLY in ratios and len(ratios):
        for method, label in labels.items():
            p_value = forget_quality(ratios[method], ratios[RETAIN_ONLY])
            titles[method] = f"{label}, p = {p_value:.2g}"
    figure = _panels("Truth ratios of what was forgotten", list(titles.values()), width=300)
    if ratios.empty:
        return figure
    ratios = ratios.clip(*DRAWN_RATIOS)
    looks = _looks(row_metrics, labels)
    share = [row / len(ratios) for row in range(len(ratios) + 1)]
    for panel, own in enumerate(labels):
        for name in (*_references(row_metrics), own):
            label, style = looks[name]
            ordered = ratios[name].sort_values().tolist()
            figure.add_scatter(
                x=[ordered[0], *ordered],
                y=share,
                name=label,
                legendgroup=name,
                showlegend=name == own or panel == 0,
                mode="lines",
                line={
                    "color": style.colour,
                    "dash": style.dash,
                    "width": style.width,
                    "shape": "hv",
                },
                hovertemplate="%{y:.0%} of the rows up to %{x:.3g}",
                **_axes(panel),
            )
    seen = np.log10(ratios.stack().quantile([0.01, 0.99]))
    figure.update_xaxes(type="log", title="Truth ratio, log", tickformat="~g", dtick=1)
    figure.update_xaxes(range=[seen.iloc[0] - 0.2, seen.iloc[1] + 0.2])
    return figure.update_yaxes(range=[0, 1.02], dtick=0.25, tickformat=".0%")


def training_curves(logs: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """The losses of each method step by step through all tasks, gradient norms, learning rates.

    Args:
        logs: the stacked training logs, with method, after_task, step and what was logged.
        labels: of the methods.
    """
    panels = [*labels.values(), "Gradient norm, log", "Learning rate"]
    figure = _panels("Unlearning, by optimiser step", panels, width=320, height=240)
    for name, dash in (("Forget loss", "solid"), ("Retain loss", "dot")):
        line = {"color": GREY, "dash": dash}
        figure.add_scatter(x=[None], y=[None], mode="lines", line=line, name=name, **_axes(0))
    for own_panel, (method, style) in enumerate(_styles(labels).items()):
        log = logs[logs["method"] == method]
        steps = list(range(1, len(log) + 1))
        for panel, column, dash in (
            (own_panel, "forget_loss", "solid"),
            (own_panel, "retain_loss", "dot"),
            (len(labels), "gradient_norm", style.dash),
            (len(labels) + 1, "learning_rate", style.dash),
        ):
            figure.add_scatter(
                x=steps,
                y=log[column].tolist(),
                name=labels[method],
                legendgroup=method,
                showlegend=column == "gradient_norm",
                mode="lines",
                line={"color": style.colour, "dash": dash, "width": 1.5},
                hovertemplate=f"step %{{x}}: {column.replace('_', ' ')} %{{y:.4g}}",
                **_axes(panel),
            )
        _mark_tasks(figure, own_panel, log)
    figure.update_layout({f"yaxis{len(labels) + 1}": {"type": "log", "dtick": 1}})
    return figure.update_yaxes(exponentformat="e")


def finetuning_curves(log: pd.DataFrame) -> go.Figure:
    """Loss, gradient norm and learning rate while the target model learned, step by step."""
    columns = {
        "loss": "Loss, log",
        "gradient_norm": "Gradient norm",
        "learning_rate": "Learning rate",
    }
    figure = _panels(
        "Fine-tuning, by optimiser step", list(columns.values()), width=300, height=220
    )
    for panel, column in enumerate(columns):
        figure.add_scatter(
            x=log["step"].tolist(),
            y=log[column].tolist(),
            mode="lines",
            line={"color": COLOURS[0], "width": 1.5},
            showlegend=False,
            hovertemplate=f"step %{{x}}: {column.replace('_', ' ')} %{{y:.4g}}<extra></extra>",
            **_axes(panel),
        )
    figure.update_yaxes(exponentformat="e")
    return figure.update_layout(yaxis={"type": "log", "dtick": 1})


def _styles(labels: Mapping[str, str]) -> dict[str, _Style]:
    """Colour and shape tell forget losses apart, filling and dash retain losses (GA+GD, GA+KL)."""
    losses = {method: label.partition("+")[::2] for method, label in labels.items()}
    retain_losses = dict.fromkeys(retain for _, retain in losses.values() if retain)
    if len(retain_losses) > len(FILLINGS):
        losses, retain_losses = {method: (label, "") for method, label in labels.items()}, {}
    forget_losses = dict.fromkeys(forget for forget, _ in losses.values())
    # 6 colours and 7 shapes: 42 pairs before one comes again.
    colours = dict(zip(forget_losses, cycle(COLOURS), strict=False))
    symbols = dict(zip(forget_losses, cycle(SYMBOLS), strict=False))
    fillings = {"": FILLINGS[0]} | dict(zip(retain_losses, FILLINGS, strict=False))
    styles = {}
    for method, (forget, retain) in losses.items():
        filling, dash = fillings[retain]
        styles[method] = _Style(colours[forget], symbols[forget] + filling, dash)
    return styles


def _references(table: pd.DataFrame) -> list[str]:
    methods = set(table["method"])
    return [name for name in REFERENCES if name in methods]


def _looks(table: pd.DataFrame, labels: Mapping[str, str]) -> dict[str, tuple[str, _Style]]:
    """Label and style of the models to compare with, then of the methods."""
    looks = {name: (REFERENCES[name].label, REFERENCES[name].style) for name in _references(table)}
    return looks | {method: (labels[method], style) for method, style in _styles(labels).items()}


def _marker(style: _Style, size: float | list[float]) -> dict[str, object]:
    # Hollow marks are nothing but outline; with the same one, full marks are as large.
    outline = {"width": 1.6, "color": style.colour}
    return {"color": style.colour, "symbol": style.symbol, "size": size, "line": outline}


def _short(value: float) -> str:
    """Two decimals that fit into a small cell: .84."""
    return "" if pd.isna(value) else f"{value:.2f}".removeprefix("0")


def _spread(n: int, most: float) -> list[float]:
    """Shifts that keep the intervals of n methods from covering each other."""
    step = min(0.16, most / n)
    return [step * (position - (n - 1) / 2) for position in range(n)]


def _add_line(
    figure: go.Figure,
    panel: int,
    x: Sequence[float],
    rows: pd.DataFrame,
    *,
    label: str,
    style: _Style,
) -> None:
    figure.add_scatter(
        x=list(x),
        y=rows["value"].tolist(),
        error_y=_intervals(rows),
        customdata=_described(rows, _moments(rows)),
        hovertemplate="%{customdata}",
        name=label,
        legendgroup=label,
        showlegend=panel == 0,
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": style.width},
        marker=_marker(style, 8),
        **_axes(panel),
    )


def _moments(rows: pd.DataFrame) -> list[str]:
    return [
        f"after task {task}" if task else REFERENCES[method].meaning
        for method, task in zip(rows["method"], rows["after_task"], strict=True)
    ]


def _intervals(rows: pd.DataFrame) -> dict[str, object]:
    # A bootstrap interval of a skewed number may leave the number itself outside.
    return {
        "array": (rows["ci_high"] - rows["value"]).clip(lower=0).tolist(),
        "arrayminus": (rows["value"] - rows["ci_low"]).clip(lower=0).tolist(),
        "thickness": 1.2,
        "width": 3,
    }


def _described(rows: pd.DataFrame, heads: Sequence[str]) -> list[str]:
    return [
        f"{head}: {row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
        for head, row in zip(heads, rows.itertuples(), strict=True)
    ]


def _mark_tasks(figure: go.Figure, panel: int, log: pd.DataFrame) -> None:
    """Draw a line where one task ends and the next begins."""
    last_steps = log.groupby("after_task").size().cumsum().tolist()
    axes = _axes(panel)
    for step in last_steps[:-1]:
        figure.add_shape(
            type="line",
            x0=step + 0.5,
            x1=step + 0.5,
            y0=0,
            y1=1,
            xref=axes["xaxis"],
            yref=f"{axes['yaxis']} domain",
            line={"color": GREY, "width": 1, "dash": "dot"},
        )


def _axes(panel: int) -> dict[str, str]:
    number = str(panel + 1) if panel else ""
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def _panels(
    title: str, titles: Sequence[str], width: int, height: int = 320, gap: int = 60
) -> go.Figure:
    """A figure of panels in two or three columns, filled row by row.

    Args:
        title: of the figure.
        titles: of the panels.
        width: px that a panel needs at least, its gap included.
        height: px of a panel.
        gap: px between columns, for the tick labels.
    """
    from plotly.subplots import make_subplots

    n_panels = len(titles)
    n_columns = min(n_panels, 2 if n_panels <= 4 else 3)
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
        subplot_titles=titles,
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
