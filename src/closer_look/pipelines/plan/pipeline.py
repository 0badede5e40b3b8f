"""The pipeline that tells what a run will take."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment
from closer_look.pipelines import forget_set

from .nodes import estimate_run

GROUPS = ("experiment", "base_model", "prompt", "forget_set", "finetuning", "unlearning")
GROUPS += ("scoring", "generation", "plan")


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the pipeline: raw rows -> questions -> estimate."""
    rows = ("questions", "unknown_questions", "refusals")
    inputs = {name: name for name in rows} | {group: f"params:{group}" for group in GROUPS}
    inputs |= {method: f"params:methods.{method}" for method in experiment.methods}
    estimate = Node(estimate_run, inputs, "estimate", name="estimate_run")
    return forget_set.create_preview_pipeline(experiment, estimate, "plan")
