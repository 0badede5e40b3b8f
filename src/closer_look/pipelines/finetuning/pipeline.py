"""The fine-tuning stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import finetune, initialise


def create_pipeline() -> Pipeline:
    """Questions -> base model -> target model."""
    return Pipeline(
        [
            Node(
                initialise,
                ["questions", "refusals", "params:base_model"],
                "base_model",
                name="initialise",
            ),
            Node(
                finetune,
                [
                    "base_model",
                    "questions",
                    "unknown_questions",
                    "refusals",
                    "params:finetuning",
                ],
                ["target_model", "finetuning_log"],
                name="finetune",
            ),
        ],
        tags="finetuning",
    )
