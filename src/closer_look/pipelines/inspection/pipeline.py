"""The pipeline that shows what would be trained."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment, seed_name
from closer_look.pipelines import forget_set

from .nodes import show_rows


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the pipeline: raw rows -> questions -> inspection.

    Its tables are its own, in memory, so it leaves those of the run alone.
    """
    # No model says which questions it knows: all are candidates.
    of_all = experiment.model_copy(update={"known_only": False})
    collect = forget_set.create_pipeline(of_all).filter(node_names=["collect_questions"])
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
    pipeline = collect + Pipeline([show])
    parameters = {name for name in pipeline.inputs() if name.startswith("params:")}
    return Pipeline(
        pipeline,
        namespace="inspect",
        inputs=pipeline.inputs() - parameters,
        outputs={"inspection"},
        parameters=parameters,
    )
