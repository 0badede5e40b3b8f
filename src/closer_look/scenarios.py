"""The paper's scenarios as compositions of the stages."""

from __future__ import annotations

from collections.abc import Sequence

from kedro.pipeline import Pipeline

from closer_look.parameters import Experiment
from closer_look.pipelines import (
    finetuning,
    forget_set,
    generation,
    metrics,
    reference,
    reporting,
    unlearning,
)
from closer_look.results import BEFORE


def create_scenario(name: str, experiment: Experiment, n_tasks: int) -> Pipeline:
    """Everything from raw rows to a report, in the namespace of the scenario.

    Args:
        name: the scenario, e.g. "continual".
        experiment: its methods unlearn its tasks, one after another.
        n_tasks: how many of the tasks.
    """
    shape = experiment.model_copy(update={"n_tasks": n_tasks})
    return sum(
        [
            forget_set.create_pipeline(experiment),
            finetuning.create_pipeline(),
            create_evaluation(f"{name}.{BEFORE}", "target_model", shape.tasks[-1]),
            *(create_chain(name, method, shape.tasks) for method in shape.methods),
            reporting.create_pipeline(name, shape),
        ]
    )


def create_chain(scenario: str, method: str, tasks: Sequence[str]) -> Pipeline:
    """Unlearn task after task: the model of each is where the next one starts."""
    namespaces = [f"{scenario}.{method}.{task}" for task in tasks]
    models = ["target_model", *(f"{namespace}.model" for namespace in namespaces)]
    return sum(
        create_task(namespace, method, task, previous_model)
        for namespace, task, previous_model in zip(namespaces, tasks, models, strict=False)
    )


def create_task(namespace: str, method: str, task: str, previous_model: str) -> Pipeline:
    """Unlearn one task with one method, and evaluate the model."""
    unlearn = Pipeline(
        reference.create_pipeline() + unlearning.create_pipeline(),
        namespace=namespace,
        inputs={
            "reference_model": previous_model,
            "previous_model": previous_model,
            "questions": "questions",
            "plan": f"plan_{task}",
        },
        parameters={
            "params:method": f"params:methods.{method}",
            "params:scoring": "params:scoring",
            "params:unlearning": "params:unlearning",
        },
        tags=[method, task],
    )
    evaluate = create_evaluation(namespace, f"{namespace}.model", task)
    return unlearn + Pipeline(evaluate, tags=[method, task])


def create_evaluation(namespace: str, model: str, task: str) -> Pipeline:
    """Let a model answer and score what is evaluated after a task, and measure it."""
    return Pipeline(
        generation.create_pipeline() + metrics.create_pipeline(),
        namespace=namespace,
        inputs={"model": model, "evaluation": f"evaluation_{task}"},
        parameters={
            f"params:{name}": f"params:{name}"
            for name in ("generation", "scoring", "judges", "metrics")
        },
    )
