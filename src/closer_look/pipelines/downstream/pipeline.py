"""The pipeline of the downstream stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import measure_abilities


def create_pipeline() -> Pipeline:
    """Create the stage: model -> downstream."""
    return Pipeline(
        [
            Node(
                measure_abilities,
                ["model", "params:downstream"],
                "downstream",
                name="measure_abilities",
            ),
        ],
        tags="downstream",
    )
