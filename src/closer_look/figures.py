"""The project's figures, one function each: tables of a run in, plotly figures out.

Colours of text and background are left to whoever shows a figure (kedro-viz, the report), in light
or dark. A figure made of panels says in ``layout.meta`` how small they may get, so that the report
can put them below each other on a phone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from closer_look.results import (
    BEFORE,
    average_tasks,
    current_tasks,
    efficacy,
    final_metrics,
    utility,
)

if TYPE_CHECKING:
    import plotly.graph_objects as go

# After Okabe and Ito: told apart with any colour vision; shades that show on white and on black.
COLOURS = ("#1F7FC4", "#D55E00", "#009E73", "#CC79A7", "#C28500", "#8C6BB1", "#2E9CC0")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "x", "cross", "star")
GREY = "#868686"
DARK_TEXT = "#1D2126"
GRID = "rgba(128,128,128,0.22)"
REMEMBERED_TO_FORGOTTEN = ((0, "#FBE6C5"), (0.5, "#C9DAE6"), (1, "#4F93C9"))

UTILITY, EFFICACY = "Model utility (MU)", "Forget efficacy (FE)"
BEFORE_LABEL = "Before"
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
    dash: str = "solid"


def curves(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """MU and FE against the number of tasks unlearned, a line a method, with intervals."""
    figure = _panels("Kept and forgotten, task by task", [UTILITY, EFFICACY], width=330)
    start, known = utility(summary, BEFORE), current_tasks(summary, BEFORE)
    n_tasks = len(known)
    grey = _Style(GREY, "circle-open", "dot")
    constant = start.loc[start.index.repeat(n_tasks + 1)]
    _add_line(figure, 0, range(n_tasks + 1), constant, label=BEFORE_LABEL, style=grey)
    _add_line(figure, 1, known["task_id"], known, label=BEFORE_LABEL, style=grey)
    for (method, style), shift in zip(_styles(labels).items(), _spread(len(labels)), strict=True):
        kept = pd.concat([start, utility(summary, method)])
        for panel, rows in enumerate((kept, current_tasks(summary, method))):
            x = rows["after_task"] + shift * (rows["after_task"] > 0)
            _add_line(figure, panel, x, rows, label=labels[method], style=style)
    figure.update_xaxes(title="Tasks unlearned", dtick=1, range=[-0.35, n_tasks + 0.35])
    return figure.update_yaxes(range=[0, 1.04])


def trade_off(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """MU against FE over all tasks so far; the upper right corner is where one wants to be."""
    figure = _panels("MU against FE over all tasks so far", [""], width=330, height=440)
    styles = {BEFORE: _Style(GREY, "star"), **_styles(labels)}
    for method, style in styles.items():
        kept = utility(summary, method)
        cells = efficacy(summary, method).groupby("after_task")
        forgotten = pd.DataFrame([average_tasks(tasks) for _, tasks in cells])
        n_points = len(kept)
        figure.add_scatter(
            x=forgotten["value"].tolist(),
            y=kept["value"].tolist(),
            customdata=[
                "before unlearning" if task == 0 else f"after task {task}"
                for task in kept["after_task"]
            ],
            hovertemplate="%{customdata}<br>MU %{y:.3f}, FE %{x:.3f}",
            name={BEFORE: BEFORE_LABEL, **labels}[method],
            mode="lines+markers",
            line={"color": style.colour, "width": 1.5, "dash": "dot"},
            marker={
                "opacity": 1,
                "line": {"width": 0},
                "symbol": style.symbol,
                "color": style.colour,
                "size": [
                    13 if n_points == 1 else 7 + 7 * n / (n_points - 1) for n in range(n_points)
                ],
            },
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
    styles = {BEFORE: _Style(GREY, "circle-open"), **_styles(labels)}
    measured = {method: final_metrics(metrics, method) for method in styles}
    splits = [split for split in SPLIT_LABELS if split in set(measured[BEFORE]["split"])]
    height = 90 + len(METRIC_LABELS) * max(28, 9 * len(styles))
    panels = [SPLIT_LABELS[split] for split in splits]
    figure = _panels("Every metric, before and after", panels, width=320, height=height, gap=90)
    order = {metric: position for position, metric in enumerate(METRIC_LABELS)}
    shifts = _spread(len(styles), most=0.66)
    for (method, style), shift in zip(styles.items(), shifts, strict=True):
        for panel, split in enumerate(splits):
            rows = measured[method]
            rows = rows[(rows["split"] == split) & rows["metric"].isin(order)]
            figure.add_scatter(
                x=rows["value"].tolist(),
                y=(rows["metric"].map(order) + shift).tolist(),
                error_x=_intervals(rows),
                customdata=_described(rows, [METRIC_LABELS[metric] for metric in rows["metric"]]),
                hovertemplate="%{customdata}",
                name={BEFORE: BEFORE_LABEL, **labels}[method],
                legendgroup=method,
                showlegend=panel == 0,
                mode="markers",
                marker={"color": style.colour, "symbol": style.symbol, "size": 8},
                **_axes(panel),
            )
    figure.update_xaxes(range=[-0.03, 1.04], dtick=0.25, tickformat=".2~f")
    return figure.update_yaxes(
        tickvals=list(order.values()),
        ticktext=list(METRIC_LABELS.values()),
        range=[len(order) - 0.5, -0.5],
        zeroline=False,
    )


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
            (len(labels), "gradient_norm", "solid"),
            (len(labels) + 1, "learning_rate", "solid"),
        ):
            figure.add_scatter(
                x=steps,
                y=log[column].tolist(),
                name=labels[method],
                legendgroup=method,
                showlegend=column == "forget_loss",
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
    # 7 colours and 8 symbols: 56 pairs before one comes again.
    return {
        method: _Style(*pair)
        for method, *pair in zip(labels, cycle(COLOURS), cycle(SYMBOLS), strict=False)
    }


def _short(value: float) -> str:
    """Two decimals that fit into a small cell: .84."""
    return "" if pd.isna(value) else f"{value:.2f}".removeprefix("0")


def _spread(n: int, most: float = 0.4) -> list[float]:
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
    times = [f"after task {task}" if task else "before unlearning" for task in rows["after_task"]]
    figure.add_scatter(
        x=list(x),
        y=rows["value"].tolist(),
        error_y=_intervals(rows),
        customdata=_described(rows, times),
        hovertemplate="%{customdata}",
        name=label,
        legendgroup=label,
        showlegend=panel == 0,
        mode="lines+markers",
        line={"color": style.colour, "dash": style.dash, "width": 2},
        marker={"symbol": style.symbol, "size": 8},
        **_axes(panel),
    )


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
        vertical_spacing=0.4 / n_rows,
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
        height=n_rows * (height + 60) + 120,
        legend={"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        meta={"n_panels": n_panels, "width": width, "height": height, "gap": gap},
    )
