"""The pipeline that tells what a run will take."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment
from closer_look.pipelines import forget_set

from .nodes import estimate_run

GROUPS = ("experiment", "base_model", "prompt", "forget_set", "finetuning", "unlearning")
GROUPS += ("scoring", "generation", "plan")


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the pipeline: raw rows -> questions -> estimate.

    Its tables are its own, in memory, so it leaves those of the run alone.
    """
    # No model says which questions it knows: all are candidates.
    of_all = experiment.model_copy(update={"known_only": False})
    collect = forget_set.create_pipeline(of_all).filter(node_names=["collect_questions"])
    rows = ("questions", "unknown_questions", "refusals")
    inputs = {name: name for name in rows} | {group: f"params:{group}" for group in GROUPS}
    inputs |= {method: f"params:methods.{method}" for method in experiment.methods}
    pipeline = collect + Pipeline([Node(estimate_run, inputs, "estimate", name="estimate_run")])
    parameters = {name for name in pipeline.inputs() if name.startswith("params:")}
    return Pipeline(
        pipeline,
        namespace="plan",
        inputs=pipeline.inputs() - parameters,
        outputs={"estimate"},
        parameters=parameters,
    )
