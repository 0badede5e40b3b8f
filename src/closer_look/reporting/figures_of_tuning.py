"""Figures of the trials by which methods were tuned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.parameters.space import shown
from closer_look.reporting import drawing as draw

if TYPE_CHECKING:
    import plotly.graph_objects as go
    from optuna import Study

    from closer_look.parameters.space import Dimension

TRIAL, FRONT, OWN, BEST = "a trial", "no trial beats it", "the method's own settings", "chosen"
NOT_SETTINGS = (
    *("method", "after_task", "trial", "state", "reason", "model_utility", "forget_efficacy"),
    *("objective", "is_feasible", "is_best", "is_on_front", "least_utility"),
)
"""Columns of the trials that are no parameters."""


def history(trials: pd.DataFrame, space: Mapping[str, Dimension], label: str) -> go.Figure:
    """Draw the objective of one trial after another, and the best so far, as Optuna does.

    Args:
        trials: of one method, see ``evaluation.study.run_study``.
        space: name of a parameter -> values tried.
        label: of the method.
    """
    from optuna.visualization import plot_optimization_history

    figure = plot_optimization_history(_study(trials, space), target_name="Objective")
    return _restyled(figure, f"Trials of {label}")


def parallel_coordinates(
    trials: pd.DataFrame, space: Mapping[str, Dimension], label: str
) -> go.Figure:
    """Draw each trial as a line through its settings, as Optuna does; see ``history``."""
    from optuna.visualization import plot_parallel_coordinate

    figure = plot_parallel_coordinate(_study(trials, space), target_name="Objective")
    return _restyled(figure, f"Settings of {label}")


def _study(trials: pd.DataFrame, space: Mapping[str, Dimension]) -> Study:
    """Put the trials of a table into a study in memory."""
    import optuna
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = {
        name: CategoricalDistribution(one.choices)
        if one.choices
        else (IntDistribution if one.is_whole else FloatDistribution)(one.low, one.high, one.log)
        for name, one in space.items()
    }
    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}
    study = optuna.create_study(direction="maximize")
    for line in trials.to_dict("records"):
        trial = optuna.trial.create_trial(
            state=states.get(line["state"], TrialState.FAIL),
            value=line["objective"] if line["state"] == "complete" else None,
            params={name: line[name] for name in space},
            distributions=distributions,
            constraints={"model_utility": 0.0 if line["is_feasible"] else 1.0},
        )
        study.add_trial(trial)
    return study


def _restyled(figure: go.Figure, title: str) -> go.Figure:
    """Give a figure of Optuna's the colours of the others."""
    clear = "rgba(0,0,0,0)"
    axis = {"gridcolor": draw.GRID, "linecolor": draw.GRID, "zerolinecolor": draw.GRID}
    figure.layout.template = {"layout": {"xaxis": axis, "yaxis": axis}}
    return figure.update_layout(
        title={"text": draw.as_text(title), "font": {"size": 15}},
        paper_bgcolor=clear,
        plot_bgcolor=clear,
    )


def pareto_fronts(trials: pd.DataFrame, labels: Mapping[str, str]) -> go.Figure:
    """Draw MU against FE on validation rows, of every trial, a panel per method.

    A line joins the trials that no other one beats in both. A dashed line shows the MU that the
    choice had to keep.

    Args:
        trials: of all methods, stacked.
        labels: method -> label.
    """
    figure = draw.panels(
        "MU against FE of all trials, on validation rows", list(labels.values()), width=230
    )
    for panel, method in enumerate(labels):
        complete = trials[(trials["method"] == method) & (trials["state"] == "complete")]
        front = complete[complete["is_on_front"]].sort_values("forget_efficacy")
        parts = {
            TRIAL: (complete, "markers", draw.GREY, "circle", 7),
            FRONT: (front, "lines+markers", draw.COLOURS[0], "circle", 8),
            OWN: (complete[complete["trial"] == 0], "markers", draw.COLOURS[2], "diamond-open", 14),
            BEST: (complete[complete["is_best"]], "markers", draw.COLOURS[1], "star-open", 16),
        }
        for name, (points, mode, colour, symbol, size) in parts.items():
            figure.add_scatter(
                x=points["forget_efficacy"].tolist(),
                y=points["model_utility"].tolist(),
                customdata=_settings(points),
                hovertemplate="%{customdata}<br>MU %{y:.3f}, FE %{x:.3f}",
                name=name,
                legendgroup=name,
                showlegend=panel == 0,
                mode=mode,
                line={"color": colour, "width": 1.5},
                marker=draw.marker(draw.Style(colour, symbol, "solid"), size),
                **draw.axes(panel),
            )
        for level in complete["least_utility"].dropna().unique():
            figure.add_shape(
                type="line",
                x0=0,
                x1=1,
                y0=level,
                y1=level,
                xref=f"{draw.axes(panel)['xaxis']} domain",
                yref=draw.axes(panel)["yaxis"],
                line={"color": draw.GREY, "width": 1, "dash": "dash"},
            )
    figure.update_xaxes(title="FE", range=[0, 1.04], dtick=0.5)
    return figure.update_yaxes(title="MU", range=[0, 1.04], dtick=0.5)


def _settings(trials: pd.DataFrame) -> list[str]:
    """Write the settings of each trial for the hover box."""
    names = [name for name in trials if name not in NOT_SETTINGS]
    return [
        "<br>".join(
            [f"trial {line['trial'] + 1}"]
            + [
                f"{name} {draw.as_text(shown(line[name]))}"
                for name in names
                if pd.notna(line[name])
            ]
        )
        for line in trials.to_dict("records")
    ]
