"""The pipeline of the unlearning stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import unlearn


def create_pipeline() -> Pipeline:
    """Create the stage: previous model, plan, reference scores -> unlearned model."""
    return Pipeline(
        [
            Node(
                unlearn,
                [
                    "previous_model",
                    "plan",
                    "questions",
                    "reference_scores",
                    "params:method",
                    "params:unlearning",
                    "training_checkpoints",
                ],
                ["model", "training_log"],
                name="unlearn",
            )
        ],
        tags="unlearning",
    )
