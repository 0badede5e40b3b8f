"""The paper's scenarios as compositions of the stages."""

from __future__ import annotations

from kedro.pipeline import Pipeline

from closer_look.parameters import Experiment
from closer_look.pipelines import (
    downstream,
    finetuning,
    forget_set,
    generation,
    metrics,
    reference,
    reporting,
    unlearning,
)
from closer_look.results import BEFORE, RETAIN_ONLY


def create_scenario(name: str, experiment: Experiment, n_tasks: int) -> Pipeline:
    """Everything from raw rows to a report, in the namespace of the scenario.

    Args:
        name: the scenario, e.g. "continual".
        experiment: its methods unlearn its tasks, one after another.
        n_tasks: how many of the tasks.
    """
    shape = experiment.model_copy(update={"n_tasks": n_tasks})
    last_task = shape.tasks[-1]
    fixed_models = {BEFORE: "target_model"}
    if shape.retain_only in ("finetuned", "pretrained"):
        fixed_models[RETAIN_ONLY] = "retain_only_model"
    final_models = {BEFORE: "target_model"}
    final_models |= {f"{m}.{last_task}": f"{name}.{m}.{last_task}.model" for m in shape.methods}
    return sum(
        [
            forget_set.create_pipeline(experiment),
            finetuning.create_pipeline(experiment),
            *(
                create_evaluation(name, cell, model, last_task, shape)
                for cell, model in fixed_models.items()
            ),
            *(create_chain(name, method, shape) for method in shape.methods),
            *(
                create_downstream(f"{name}.{cell}", model)
                for cell, model in final_models.items()
                if shape.downstream
            ),
            reporting.create_pipeline(name, shape),
        ]
    )


def create_chain(scenario: str, method: str, experiment: Experiment) -> Pipeline:
    """Unlearn task after task, each model starting from the one before, and gather the results."""
    cells = [f"{method}.{task}" for task in experiment.tasks]
    models = ["target_model", *(f"{scenario}.{cell}.model" for cell in cells)]
    chain = Pipeline([])
    for cell, task, previous_model in zip(cells, experiment.tasks, models, strict=False):
        reference_model = "target_model" if experiment.reference == "first" else previous_model
        unlearn = create_unlearning(f"{scenario}.{cell}", previous_model, reference_model)
        evaluate = create_evaluation(scenario, cell, f"{scenario}.{cell}.model", task, experiment)
        chain += Pipeline(unlearn + evaluate, tags=[method, task])
    return chain + reporting.create_method_pipeline(scenario, method, experiment.tasks)


def create_unlearning(namespace: str, previous_model: str, reference_model: str) -> Pipeline:
    """Unlearn one task with one method."""
    _, method, task = namespace.split(".")
    return Pipeline(
        reference.create_pipeline() + unlearning.create_pipeline(),
        namespace=namespace,
        inputs={
            "reference_model": reference_model,
            "previous_model": previous_model,
            "questions": "questions",
            "plan": f"plan_{task}",
            "reference_cache": "reference_cache",
        },
        parameters={
            "params:method": f"params:methods.{method}",
            "params:scoring": "params:scoring",
            "params:unlearning": "params:unlearning",
        },
    )


def create_evaluation(
    scenario: str, cell: str, model: str, task: str, experiment: Experiment
) -> Pipeline:
    """Let a model answer and score what is evaluated after a task, and measure it."""
    inputs = {"model": model, "evaluation": f"evaluation_{task}"}
    if experiment.retain_only == "scores":
        inputs["retain_only_scores"] = "retain_only_scores"
    elif experiment.retain_only and cell != RETAIN_ONLY:
        inputs["retain_only_scores"] = f"{scenario}.{RETAIN_ONLY}.scores"
    return Pipeline(
        generation.create_pipeline()
        + metrics.create_pipeline(with_retain_only="retain_only_scores" in inputs),
        namespace=f"{scenario}.{cell}",
        inputs=inputs,
        parameters={
            f"params:{name}": f"params:{name}"
            for name in ("generation", "scoring", "judges", "metrics")
        },
    )


def create_downstream(namespace: str, model: str) -> Pipeline:
    """Measure a model's general abilities."""
    return Pipeline(
        downstream.create_pipeline(),
        namespace=namespace,
        inputs={"model": model},
        parameters={"params:downstream": "params:downstream"},
    )
