"""The project's figures: plotly figures of the summary of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.results import BEFORE, current_tasks, efficacy, utility

if TYPE_CHECKING:
    import plotly.graph_objects as go

# Okabe and Ito's colours, told apart with any colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
UTILITY, EFFICACY = "Model utility (MU)", "Forget efficacy (FE)"


def curves(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """MU and FE against the number of tasks unlearned, a line a method, with intervals."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=2, subplot_titles=(UTILITY, EFFICACY))
    before = utility(summary, BEFORE).iloc[0]
    for colour, (method, label) in zip(COLOURS, labels.items(), strict=False):
        kept = pd.concat([before.to_frame().T, utility(summary, method)])
        for column, values in enumerate((kept, current_tasks(summary, method)), start=1):
            figure.add_scatter(
                x=values["after_task"],
                y=values["value"],
                error_y=_intervals(values),
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                mode="lines+markers",
                line={"color": colour},
                row=1,
                col=column,
            )
    figure.update_xaxes(title="Tasks unlearned", dtick=1)
    figure.update_yaxes(range=[0, 1.05])
    return _styled(figure, "What is kept, and how much of the task just unlearned is gone")


def trade_off(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """MU against FE after each task; the upper right corner is where one wants to be."""
    import plotly.graph_objects as go

    figure = go.Figure()
    before = current_tasks(summary, BEFORE)
    figure.add_scatter(
        x=[before["value"].mean()],
        y=[utility(summary, BEFORE)["value"].iloc[0]],
        name="Before unlearning",
        mode="markers",
        marker={"symbol": "star", "size": 14, "color": "#555555"},
    )
    for colour, (method, label) in zip(COLOURS, labels.items(), strict=False):
        forgotten, kept = current_tasks(summary, method), utility(summary, method)
        figure.add_scatter(
            x=forgotten["value"],
            y=kept["value"],
            text=[f"after task {task}" for task in kept["after_task"]],
            name=label,
            mode="lines+markers",
            line={"color": colour, "dash": "dot"},
            marker={"size": [8 + 2 * n for n in range(len(kept))]},
        )
    figure.update_xaxes(title=EFFICACY, range=[0, 1.05])
    figure.update_yaxes(title=UTILITY, range=[0, 1.05])
    return _styled(figure, "Trade-off after each task (larger marks are later tasks)")


def forgetting_matrix(summary: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """FE of every task's forget set (rows) after every task (columns), a panel a method.

    A cell that pales to the right shows knowledge that comes back.
    """
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(labels), subplot_titles=list(labels.values()))
    before = efficacy(summary, BEFORE)
    for column, method in enumerate(labels, start=1):
        cells = pd.concat([before, efficacy(summary, method)])
        matrix = cells.pivot_table(index="task_id", columns="after_task", values="value")
        figure.add_heatmap(
            x=["before", *(f"after {time}" for time in matrix.columns[1:])],
            y=[f"task {task}" for task in matrix.index],
            z=matrix.to_numpy(),
            texttemplate="%{z:.2f}",
            coloraxis="coloraxis",
            row=1,
            col=column,
        )
    figure.update_yaxes(autorange="reversed")
    figure.update_layout(
        coloraxis={"colorscale": "Blues", "cmin": 0, "cmax": 1, "colorbar": {"title": "FE"}}
    )
    return _styled(figure, "Forget efficacy of each task after each task")


def _intervals(values: pd.DataFrame) -> dict[str, object]:
    return {
        "array": values["ci_high"] - values["value"],
        "arrayminus": values["value"] - values["ci_low"],
        "thickness": 1,
    }


def _styled(figure: go.Figure, title: str) -> go.Figure:
    return figure.update_layout(
        template="plotly_white",
        title=title,
        font={"size": 13},
        margin={"t": 90, "l": 60, "r": 20, "b": 50},
        legend={"orientation": "h", "y": -0.2},
    )
