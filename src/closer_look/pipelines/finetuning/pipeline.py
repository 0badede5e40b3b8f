"""The fine-tuning stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import finetune, initialise


def create_pipeline() -> Pipeline:
    """Questions -> base model -> target model."""
    return Pipeline(
        [
            Node(
                initialise, ["questions", "params:base_model"], "base_model", name="initialise"
            ),
            Node(
                finetune,
                ["base_model", "questions", "params:finetuning"],
                ["target_model", "finetuning_log"],
                name="finetune",
            ),
        ],
        tags="finetuning",
    )
