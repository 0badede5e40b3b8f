"""The paper's scenarios, composed of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from kedro.pipeline import Pipeline

from closer_look.data.cells import (
    BEFORE,
    RETAIN_ONLY,
    Cell,
    cells_from_elsewhere,
    cells_to_compare_with,
)
from closer_look.evaluation.attacks import Attack
from closer_look.parameters.experiment import Experiment, task_name
from closer_look.pipelines import (
    downstream,
    finetuning,
    forget_set,
    generation,
    metrics,
    reference,
    reporting,
    stress,
    tuning,
    unlearning,
)

REPORTED = "_reported"
"""Ends the name of a task whose rows to evaluate are those left by tuning."""


def create_scenario(
    name: str,
    experiment: Experiment,
    methods: Mapping[str, Mapping[str, Any]],
    n_tasks: int,
    attacks: Mapping[str, Attack],
    prefix: str = "",
    *,
    tuned: bool = False,
) -> Pipeline:
    """Create a scenario's pipeline, from raw rows to the report.

    Args:
        name: name of the scenario, which becomes its namespace, such as "continual".
        experiment: the methods, and the shape of the run.
        methods: parameters of the methods by name; some need nodes of their own.
        n_tasks: number of tasks that each method unlearns, one after another.
        attacks: attacks on the models after the last task, by name.
        prefix: begins the names of the table, record and report that attacks are a part of.
        tuned: tune each method that trains, and report rows that tuning has not seen.
    """
    shape = experiment.model_copy(update={"n_tasks": n_tasks})
    last = [Cell(name, method, n_tasks) for method in shape.methods]
    last += cells_from_elsewhere(name, shape)
    final_models = {Cell(name, BEFORE): "target_model"}
    final_models |= {cell: cell.dataset("model") for cell in last}
    return Pipeline(
        [
            forget_set.create_pipeline(experiment),
            finetuning.create_pipeline(experiment),
            *([create_tuning(name, shape, methods)] if tuned else []),
            *create_measurement(name, shape, tuned=tuned),
            *chain.from_iterable(
                create_chain(name, method, shape, methods[method], tuned=tuned)
                for method in shape.methods
            ),
            *(
                create_downstream(cell, model)
                for cell, model in final_models.items()
                if shape.downstream
            ),
            create_stress(
                name,
                shape,
                cells_to_compare_with(name, shape) | final_models,
                attacks,
                tuned=tuned,
            ),
            reporting.create_pipeline(name, shape, attacks, prefix),
        ]
    )


def create_measure(name: str, experiment: Experiment) -> Pipeline:
    """Create the pipeline that measures models and trains none.

    These are the models made elsewhere and, if they are pretrained, the target model and the
    retain-only model.

    Args:
        name: name of the pipeline, which becomes its namespace.
        experiment: the models, and the rows to ask them.
    """
    update = {"methods": (), "downstream": False}
    if experiment.retain_only == "finetuned":
        update["retain_only"] = None
    shape = experiment.model_copy(update=update)
    measurement = Pipeline(create_measurement(name, shape))
    before = forget_set.create_pipeline(experiment) + finetuning.create_pipeline(shape)
    return Pipeline(
        [
            before.to_outputs(*(measurement.inputs() & before.all_outputs())),
            measurement,
            reporting.create_pipeline(name, shape),
        ]
    )


def create_tuning(
    scenario: str, experiment: Experiment, methods: Mapping[str, Mapping[str, Any]]
) -> Pipeline:
    """Create the pipeline that tunes the methods, those that train."""
    tuned = [method for method in experiment.methods if not methods[method].get("instruction")]
    reported = [f"evaluation_{task}{REPORTED}" for task in experiment.tasks]
    parts = (
        Pipeline(
            tuning.create_pipeline(),
            namespace=Cell(scenario, method).namespace,
            inputs={*tuning.INPUTS},
            parameters=_parameters(Cell(scenario, method), *tuning.GROUPS),
            tags=method,
        )
        for method in tuned
    )
    return Pipeline(
        [
            tuning.create_rows_pipeline(experiment, tuned, reported),
            *parts,
            tuning.create_results_pipeline(scenario, tuned),
        ]
    )


def create_measurement(
    scenario: str, experiment: Experiment, *, tuned: bool = False
) -> list[Pipeline]:
    """Create the pipelines that measure what needs no unlearning, on the rows of all tasks.

    These are the models to compare with and the models made elsewhere.
    """
    elsewhere = cells_from_elsewhere(scenario, experiment)
    models = cells_to_compare_with(scenario, experiment)
    models |= {cell: cell.dataset("model") for cell in elsewhere}
    questions = "candidate_questions" if experiment.known_only else "questions"
    taken = [
        Pipeline(
            finetuning.create_model_pipeline(),
            namespace=cell.namespace,
            inputs={"questions": questions},
            parameters={
                "params:model": f"params:models.{cell.method}",
                "params:prompt": "params:prompt",
                "params:generation": "params:generation",
            },
        )
        for cell in elsewhere
    ]
    evaluated = [
        create_evaluation(cell, model, experiment.n_tasks, experiment, tuned=tuned)
        for cell, model in models.items()
    ]
    return taken + evaluated


def create_chain(
    scenario: str,
    method: str,
    experiment: Experiment,
    settings: Mapping[str, Any],
    *,
    tuned: bool = False,
) -> list[Pipeline]:
    """Create a method's pipelines: unlearn task after task, evaluate each model, stack results."""
    cells = [Cell(scenario, method, task) for task in range(1, experiment.n_tasks + 1)]
    models = ["target_model", *(cell.dataset("model") for cell in cells)]
    pipelines = []
    if settings.get("alternates"):
        pipelines.append(create_alternates(Cell(scenario, method), experiment))
    for cell, previous_model in zip(cells, models, strict=False):
        reference_model = "target_model" if experiment.reference == "first" else previous_model
        unlearn = create_unlearning(cell, previous_model, reference_model, settings, tuned=tuned)
        evaluate = create_evaluation(
            cell, cell.dataset("model"), cell.task, experiment, tuned=tuned
        )
        pipelines.append(Pipeline([*unlearn, evaluate], tags=[method, task_name(cell.task)]))
    return [*pipelines, reporting.create_method_pipeline(cells)]


def create_alternates(cell: Cell, experiment: Experiment) -> Pipeline:
    """Create the pipeline that makes the alternate answers of a method, for all of its tasks."""
    plans = [f"plan_{task}" for task in experiment.tasks]
    return Pipeline(
        unlearning.create_alternates_pipeline(plans),
        namespace=cell.namespace,
        inputs={"target_model", "questions", *plans},
        parameters=_parameters(cell, "unlearning", "generation"),
        tags=cell.method,
    )


def create_unlearning(
    cell: Cell,
    previous_model: str,
    reference_model: str,
    settings: Mapping[str, Any],
    *,
    tuned: bool = False,
) -> list[Pipeline]:
    """Create the pipelines that unlearn the cell's task with its method.

    Args:
        cell: names the method and the task.
        previous_model: dataset of the model to start from.
        reference_model: dataset of the frozen reference.
        settings: the method's parameters; they say what it needs beside a plan.
        tuned: take the settings that tuning has found.
    """
    plan = {"plan": f"plan_{task_name(cell.task)}"}
    if settings.get("instruction"):
        instruct = Pipeline(
            unlearning.create_instruction_pipeline(),
            namespace=cell.namespace,
            inputs={"target_model": "target_model", "questions": "questions"} | plan,
            parameters=_parameters(cell),
        )
        return [instruct]
    pipelines = []
    method, found, parameters = "params:method", {}, _parameters(cell)
    if tuned:
        method, parameters = "method", {}
        found["method"] = cell._replace(task=None).dataset("tuned_method")
    if tuned or settings.get("epochs"):
        own = Pipeline(
            unlearning.create_plan_pipeline(method=method),
            namespace=cell.namespace,
            inputs={"questions": "questions", "refusals": "refusals"} | plan | found,
            parameters=parameters | _shared("forget_set"),
        )
        pipelines.append(own)
        plan = {"plan": cell.dataset("own_plan")}
    with_alternates = bool(settings.get("alternates"))
    inputs = {
        "reference_model": reference_model,
        "previous_model": previous_model,
        "questions": "questions",
        "reference_cache": "reference_cache",
    }
    if with_alternates:
        inputs["alternates"] = cell._replace(task=None).dataset("alternates")
    unlearn = Pipeline(
        [
            reference.create_pipeline(with_alternates=with_alternates, method=method),
            unlearning.create_pipeline(with_alternates=with_alternates, method=method),
        ],
        namespace=cell.namespace,
        inputs=inputs | plan | found,
        parameters=parameters | _shared("scoring", "unlearning"),
    )
    return [*pipelines, unlearn]


def _parameters(cell: Cell, *groups: str) -> dict[str, str]:
    """Return the parameters of a stage: those of the cell's method, and shared groups."""
    return {"params:method": f"params:methods.{cell.method}"} | _shared(*groups)


def _shared(*groups: str) -> dict[str, str]:
    return {f"params:{group}": f"params:{group}" for group in groups}


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
        parameters=_shared("generation", "scoring", "judges", "metrics"),
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
    return sum(
        (
            create_attack(cell, model, f"attacked_rows_{task}", attacks[cell.attack])
            for cell, model in attacked.items()
        ),
        stress.create_pipeline(task)
        + stress.create_results_pipeline(scenario, task, [*models], [*attacked], [*attacks]),
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
        parameters={"params:attack": f"params:attacks.{cell.attack}"} | _shared(*shared),
    )


def create_downstream(cell: Cell, model: str) -> Pipeline:
    """Create the pipeline that measures the general abilities of the cell's model."""
    return Pipeline(
        downstream.create_pipeline(),
        namespace=cell.namespace,
        inputs={"model": model},
        parameters={"params:downstream": "params:downstream"},
    )
