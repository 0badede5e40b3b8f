"""What is measured of a model: answers and metrics, what attacks get back, general abilities."""

from __future__ import annotations

from collections.abc import Mapping

from kedro.pipeline import Pipeline

from closer_look.data.cells import RETAIN_ONLY, Cell
from closer_look.evaluation.attacks import Attack
from closer_look.parameters.experiment import Experiment, task_name
from closer_look.pipelines import downstream, generation, metrics, stress

REPORTED = "_reported"
"""Ends the name of a task whose rows to evaluate are those left by tuning."""


def create_evaluation(
    cell: Cell, model: str, task: int, experiment: Experiment, *, tuned: bool = False
) -> Pipeline:
    """Create the pipeline that evaluates the cell's model on the rows of a task's evaluation."""
    evaluation = f"evaluation_{task_name(task)}{REPORTED if tuned else ''}"
    inputs = {"model": model, "evaluation": evaluation}
    if experiment.membership:
        inputs["holdout"] = "holdout"
    if experiment.retain_only == "scores":
        inputs["retain_only_scores"] = "retain_only_scores"
    elif experiment.retain_only and cell.method != RETAIN_ONLY:
        inputs["retain_only_scores"] = Cell(cell.scenario, RETAIN_ONLY).dataset("scores")
    return Pipeline(
        [
            generation.create_pipeline(with_holdout=experiment.membership),
            metrics.create_pipeline(
                with_retain_only="retain_only_scores" in inputs,
                with_holdout=experiment.membership,
            ),
        ],
        namespace=cell.namespace,
        inputs=inputs,
        parameters=shared_parameters("generation", "scoring", "judges", "metrics"),
    )


def create_stress(
    scenario: str,
    experiment: Experiment,
    models: Mapping[Cell, str],
    attacks: Mapping[str, Attack],
    *,
    tuned: bool = False,
) -> Pipeline:
    """Create the pipeline that attacks models.

    An attack that compares with a retain-only model is left out where the run has none, and on
    that model itself.

    Args:
        scenario: its name.
        experiment: the shape of the run.
        models: cell -> dataset of its model.
        attacks: by name.
        tuned: attack none of the rows on which methods were tuned.
    """
    if not attacks:
        return Pipeline([])
    task = experiment.tasks[-1] + (REPORTED if tuned else "")
    to_compare_with = {cell.method for cell in models} & {RETAIN_ONLY}
    attacked = {
        cell._replace(attack=name): model
        for cell, model in models.items()
        for name, attack in attacks.items()
        if not attack.needs_retain_only or to_compare_with - {cell.method}
    }
    return Pipeline(
        [
            stress.create_pipeline(task),
            *(
                create_attack(cell, model, f"attacked_rows_{task}", attacks[cell.attack])
                for cell, model in attacked.items()
            ),
            stress.create_results_pipeline(scenario, task, [*models], [*attacked], [*attacks]),
        ]
    )


def create_attack(cell: Cell, model: str, rows: str, attack: Attack) -> Pipeline:
    """Create the pipeline of the cell's attack on a model."""
    inputs = {"model": model, "attacked_rows": rows, "questions": "questions"}
    inputs |= {other: other for other in attack.compared_with}
    shared = ("unlearning", "generation", "scoring", "stress", "judges")
    return Pipeline(
        stress.create_attack_pipeline(attack.compared_with),
        namespace=cell.namespace,
        inputs=inputs,
        parameters={"params:attack": f"params:attacks.{cell.attack}"} | shared_parameters(*shared),
    )


def create_downstream(cell: Cell, model: str) -> Pipeline:
    """Create the pipeline that measures the general abilities of the cell's model."""
    return Pipeline(
        downstream.create_pipeline(),
        namespace=cell.namespace,
        inputs={"model": model},
        parameters={"params:downstream": "params:downstream"},
    )


def shared_parameters(*groups: str) -> dict[str, str]:
    """Return groups of parameters that a stage takes as they are."""
    return {f"params:{group}": f"params:{group}" for group in groups}
