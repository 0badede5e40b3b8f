"""The pipeline that shows what would be trained."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment, seed_name
from closer_look.pipelines import forget_set

from .nodes import show_rows


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the pipeline: raw rows -> questions -> inspection."""
    show = Node(
        show_rows,
        {
            "questions": "questions",
            "refusals": "refusals",
            "base_model": "params:base_model",
            "prompt": "params:prompt",
            "forget_set": "params:forget_set",
        }
        | ({"seed": seed_name(experiment.seeds[0])} if experiment.seeds else {})
        | {method: f"params:methods.{method}" for method in experiment.methods},
        "inspection",
        name="show_rows",
    )
    return forget_set.create_preview_pipeline(experiment, show, "inspect")
