"""Figures of tuning: every trial, in the order of the study."""

import pandas as pd
import pytest

from closer_look.parameters.space import Dimension
from closer_look.reporting.figures_of_tuning import history, parallel_coordinates, pareto_fronts

pytest.importorskip("optuna", reason="the extra 'tuning' is not installed")

SPACE = {
    "learning_rate": Dimension(low=0.01, high=1.0, log=True),
    "epochs": Dimension(low=2, high=8),
    "kind": Dimension(choices=("a", "b")),
}


@pytest.fixture
def trials():
    lines = [
        (0, "complete", 0.9, 0.5, True, True, 0.1, 5, "a"),
        (1, "pruned", None, None, False, False, 0.9, 3, "b"),
        (2, "complete", 0.5, 0.9, False, True, 0.2, 8, "b"),
        (3, "complete", 0.4, 0.4, False, False, 0.02, 2, "a"),
        (4, "failed", None, None, False, False, 1.0, 2, "a"),
    ]
    names = ["trial", "state", "model_utility", "forget_efficacy", "is_best", "is_on_front"]
    table = pd.DataFrame(lines, columns=[*names, *SPACE])
    return table.assign(
        method="npo",
        objective=table["forget_efficacy"],
        is_feasible=table["model_utility"] >= 0.45,
        least_utility=0.45,
    )


def test_history_shows_complete_trials_by_their_numbers(trials):
    figure = history(trials, SPACE, "N<P>O")
    drawn = sorted(
        (x, y)
        for part in figure.data
        if part.mode == "markers"
        for x, y in zip(part.x, part.y, strict=True)
    )
    assert drawn == [(0, 0.5), (2, 0.9), (3, 0.4)]
    assert figure.layout.title.text == "Trials of N&lt;P&gt;O"


def test_parallel_coordinates_have_an_axis_for_each_setting(trials):
    figure = parallel_coordinates(trials, SPACE, "NPO")
    axes = sorted(figure.layout.xaxis.ticktext)
    assert axes == ["Objective", "epochs", "kind", "learning_rate"]
    assert len([line for line in figure.data if len(line.x) == len(axes)]) == 3


def test_front_and_choice_are_marked_among_all_trials(trials):
    figure = pareto_fronts(trials, {"npo": "NPO"})
    every, front, own, best = figure.data
    assert list(every.x) == [0.5, 0.9, 0.4]
    assert list(front.x) == [0.5, 0.9]
    assert (list(own.x), list(best.y)) == ([0.5], [0.9])
    assert "epochs 8" in every.customdata[1]
    assert [shape.y0 for shape in figure.layout.shapes] == [0.45]
    without = pareto_fronts(trials.assign(least_utility=float("nan")), {"npo": "NPO"})
    assert not without.layout.shapes
