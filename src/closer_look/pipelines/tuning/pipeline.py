"""The pipelines of the tuning stage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from kedro.pipeline import Node, Pipeline

from closer_look.data.cells import Cell
from closer_look.parameters.experiment import Experiment
from closer_look.pipelines.reporting.nodes import stack_cells

from .nodes import draw_validation, list_spaces, plot_pareto_fronts, plot_study, tune_method

GROUPS = (*("experiment", "forget_set", "unlearning", "generation", "scoring", "judges", "tuning"),)
INPUTS = ("target_model", "questions", "refusals", "validation", "reference_cache")


@cache  # the same for every method
def create_pipeline() -> Pipeline:
    """Create the stage of one method: target model, validation rows -> its best settings."""
    inputs = {name: name for name in (*INPUTS, "study")}
    inputs |= {name: f"params:{name}" for name in ("method", *GROUPS)}
    return Pipeline(
        [
            Node(tune_method, inputs, ["tuned_method", "trials"], name="tune_method"),
            Node(
                plot_study,
                ["trials", "params:method", "params:tuning"],
                ["tuning_history", "parallel_coordinates"],
                name="plot_study",
            ),
        ],
        tags="tuning",
    )


def create_rows_pipeline(experiment: Experiment, reported: Sequence[str]) -> Pipeline:
    """Create the pipeline before all methods: what is searched, and on which rows.

    Args:
        experiment: the methods, and the shape of the run.
        reported: the datasets of the rows that are reported, one for each task.
    """
    spaces = {"questions": "questions"}
    spaces |= {"tuning": "params:tuning", "unlearning": "params:unlearning"}
    spaces |= {method: f"params:methods.{method}" for method in experiment.methods}
    return Pipeline(
        [
            Node(list_spaces, spaces, "search_spaces", name="list_spaces"),
            Node(
                draw_validation,
                [f"evaluation_{experiment.tasks[-1]}", "params:tuning"],
                ["validation", *reported],
                name="draw_validation",
            ),
        ],
        tags="tuning",
    )


def create_results_pipeline(scenario: str, methods: Sequence[str]) -> Pipeline:
    """Create the pipeline that puts the trials of all methods side by side."""
    trials = {
        cell.namespace: cell.dataset("trials")
        for cell in (Cell(scenario, method) for method in methods)
    }
    labels = {method: f"params:methods.{method}.label" for method in methods}
    return Pipeline(
        [
            Node(
                stack_cells,
                trials,
                f"{scenario}.trials",
                name="stack_trials",
                namespace=scenario,
            ),
            Node(
                plot_pareto_fronts,
                {"trials": f"{scenario}.trials"} | labels,
                f"{scenario}.pareto_fronts",
                name="plot_pareto_fronts",
                namespace=scenario,
            ),
        ],
        tags="tuning",
    )
