"""The paper's scenarios, composed of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

from kedro.pipeline import Pipeline

from closer_look.data.cells import (
    BEFORE,
    Cell,
    cells_from_elsewhere,
    cells_of_numbers,
    cells_to_compare_with,
)
from closer_look.evaluation.attacks import Attack
from closer_look.parameters.experiment import Experiment, plan_name, seed_name, task_name
from closer_look.pipelines import (
    benchmark,
    finetuning,
    forget_set,
    metrics,
    reference,
    reporting,
    tuning,
    unlearning,
)
from closer_look.pipelines.measurement import (
    REPORTED,
    create_downstream,
    create_evaluation,
    create_stress,
    shared_parameters,
)


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
        tuned: tune each method that trains, report rows that tuning has not seen, and rank the
            methods by them.
    """
    shape = experiment.model_copy(update={"n_tasks": n_tasks})
    tuned_methods = _tuned(shape, methods) if tuned else None
    # What takes long and is told once for a method is made of its model of the first seed.
    last = [Cell(name, method, n_tasks, shape.each_seed[0]) for method in shape.methods]
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
                create_method(name, method, shape, methods[method], tuned=tuned)
                for method in shape.methods
            ),
            *_create_abilities(shape, final_models),
            create_stress(
                name,
                shape,
                cells_to_compare_with(name, shape) | final_models,
                attacks,
                tuned=tuned,
            ),
            *([benchmark.create_pipeline(name, shape, tuned_methods, attacks)] if tuned else []),
            reporting.create_pipeline(name, shape, attacks, prefix, tuned_methods),
        ]
    )


def _create_abilities(experiment: Experiment, models: Mapping[Cell, str]) -> list[Pipeline]:
    """Create the pipelines that measure general abilities, if a run does."""
    if not experiment.downstream:
        return []
    return [create_downstream(cell, model) for cell, model in models.items()]


def _tuned(experiment: Experiment, methods: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """List the methods that train something, and so can be tuned."""
    return [method for method in experiment.methods if not methods[method].get("instruction")]


def create_measure(name: str, experiment: Experiment) -> Pipeline:
    """Create the pipeline that measures models and trains none.

    These are the models made elsewhere and, if they are pretrained, the target model and the
    retain-only model.

    Args:
        name: name of the pipeline, which becomes its namespace.
        experiment: the models, and the rows to ask them.
    """
    update = {"methods": (), "seeds": None}
    if experiment.retain_only == "finetuned":
        update["retain_only"] = None
    shape = experiment.model_copy(update=update)
    models = cells_to_compare_with(name, shape)
    models = {cell: model for cell, model in models.items() if cell.method == BEFORE}
    models |= {cell: cell.dataset("model") for cell in cells_from_elsewhere(name, shape)}
    abilities = _create_abilities(shape, models)
    measurement = Pipeline([*create_measurement(name, shape), *abilities])
    before = forget_set.create_pipeline(experiment) + finetuning.create_pipeline(shape)
    needed = measurement.inputs() | {"abilities"}  # which checks that they can be measured
    return Pipeline(
        [
            before.to_outputs(*(needed & before.all_outputs())),
            measurement,
            reporting.create_pipeline(name, shape),
        ]
    )


def create_tuning(
    scenario: str, experiment: Experiment, methods: Mapping[str, Mapping[str, Any]]
) -> Pipeline:
    """Create the pipeline that tunes the methods, those that train."""
    tuned = _tuned(experiment, methods)
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
            tuning.create_rows_pipeline(experiment, reported),
            *parts,
            *([tuning.create_results_pipeline(scenario, tuned)] if tuned else []),
        ]
    )


def create_measurement(
    scenario: str, experiment: Experiment, *, tuned: bool = False
) -> list[Pipeline]:
    """Create the pipelines that measure what needs no unlearning, on the rows of all tasks.

    These are the models to compare with and the models made elsewhere; some of these bring their
    numbers.
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
                "params:forget_set": "params:forget_set",
            },
        )
        for cell in elsewhere
    ]
    evaluated = [
        create_evaluation(cell, model, experiment.n_tasks, experiment, tuned=tuned)
        for cell, model in models.items()
    ]
    known = [
        Pipeline(
            metrics.create_numbers_pipeline(),
            namespace=cell.namespace,
            inputs={"evaluation": f"evaluation_{task_name(cell.task)}"},
            parameters={
                "params:model": f"params:models.{cell.method}",
                "params:metrics": "params:metrics",
            },
        )
        for cell in cells_of_numbers(scenario, experiment)
    ]
    return taken + evaluated + known


def create_method(
    scenario: str,
    method: str,
    experiment: Experiment,
    settings: Mapping[str, Any],
    *,
    tuned: bool = False,
) -> list[Pipeline]:
    """Create a method's pipelines: a chain for each seed, and the stacked results of all."""
    chains = [
        create_chain(Cell(scenario, method, seed=seed), experiment, settings, tuned=tuned)
        for seed in experiment.each_seed
    ]
    cells = [
        Cell(scenario, method, task, seed)
        for seed in experiment.each_seed
        for task in range(1, experiment.n_tasks + 1)
    ]
    return [*chain.from_iterable(chains), reporting.create_method_pipeline(cells)]


def create_chain(
    first: Cell, experiment: Experiment, settings: Mapping[str, Any], *, tuned: bool = False
) -> list[Pipeline]:
    """Create a chain's pipelines: unlearn task after task, and evaluate each model.

    Args:
        first: names the method and, in a run that has several, the seed; without a task.
        experiment: the shape of the run.
        settings: the method's parameters.
        tuned: take the settings that tuning has found, and leave out the rows it has seen.
    """
    cells = [first._replace(task=task) for task in range(1, experiment.n_tasks + 1)]
    target = experiment.of_seed("target_model", first.seed)
    models = [target, *(cell.dataset("model") for cell in cells)]
    pipelines = []
    if settings.get("alternates"):
        pipelines.append(create_alternates(first, experiment))
    for cell, previous_model in zip(cells, models, strict=False):
        reference_model = target if experiment.reference == "first" else previous_model
        unlearn = create_unlearning(
            cell, previous_model, reference_model, target, settings, tuned=tuned
        )
        evaluate = create_evaluation(
            cell, cell.dataset("model"), cell.task, experiment, tuned=tuned
        )
        tags = [*_tags(cell), task_name(cell.task)]
        pipelines.append(Pipeline([*unlearn, evaluate], tags=tags))
    return pipelines


def _tags(cell: Cell) -> list[str]:
    return [cell.method, *_seed_of(cell).values()]


def _seed_of(cell: Cell) -> dict[str, str]:
    """Return the input of nodes that draw with the cell's seed; none in a run without seeds."""
    return {} if cell.seed is None else {"seed": seed_name(cell.seed)}


def create_alternates(cell: Cell, experiment: Experiment) -> Pipeline:
    """Create the pipeline that makes a method's alternate answers, for all tasks of a chain."""
    plans = {plan_name(task): plan_name(task, cell.seed) for task in experiment.tasks}
    seed = _seed_of(cell)
    target = experiment.of_seed("target_model", cell.seed)
    return Pipeline(
        unlearning.create_alternates_pipeline([*plans], with_seed=bool(seed)),
        namespace=cell.namespace,
        inputs={"target_model": target, "questions": "questions"} | plans | seed,
        parameters=_parameters(cell, "unlearning", "generation"),
        tags=_tags(cell),
    )


def create_unlearning(
    cell: Cell,
    previous_model: str,
    reference_model: str,
    target_model: str,
    settings: Mapping[str, Any],
    *,
    tuned: bool = False,
) -> list[Pipeline]:
    """Create the pipelines that unlearn the cell's task with its method.

    Args:
        cell: names the method and the task.
        previous_model: dataset of the model to start from.
        reference_model: dataset of the frozen reference.
        target_model: dataset of the model before all tasks.
        settings: the method's parameters; they say what it needs beside a plan.
        tuned: take the settings that tuning has found.
    """
    plan = {"plan": plan_name(task_name(cell.task), cell.seed)}
    seed = _seed_of(cell)
    if settings.get("instruction"):
        instruct = Pipeline(
            unlearning.create_instruction_pipeline(),
            namespace=cell.namespace,
            inputs={"target_model": target_model, "questions": "questions"} | plan,
            parameters=_parameters(cell),
        )
        return [instruct]
    pipelines = []
    method, found, parameters = "params:method", {}, _parameters(cell)
    if tuned:
        method, parameters = "method", {}
        found["method"] = Cell(cell.scenario, cell.method).dataset("tuned_method")
    if tuned or settings.get("epochs"):
        own = Pipeline(
            unlearning.create_plan_pipeline(with_seed=bool(seed), method=method),
            namespace=cell.namespace,
            inputs={"questions": "questions", "refusals": "refusals"} | plan | found | seed,
            parameters=parameters | shared_parameters("forget_set"),
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
            unlearning.create_pipeline(
                with_alternates=with_alternates, with_seed=bool(seed), method=method
            ),
        ],
        namespace=cell.namespace,
        inputs=inputs | plan | found | seed,
        parameters=parameters | shared_parameters("scoring", "unlearning"),
    )
    return [*pipelines, unlearn]


def _parameters(cell: Cell, *groups: str) -> dict[str, str]:
    """Return the parameters of a stage: those of the cell's method, and shared groups."""
    return {"params:method": f"params:methods.{cell.method}"} | shared_parameters(*groups)
