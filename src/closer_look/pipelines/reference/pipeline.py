"""The pipeline of the reference stage."""

from functools import cache

from kedro.pipeline import Node, Pipeline

from .nodes import score_reference


@cache  # the same for every cell
def create_pipeline(*, with_alternates: bool = False, method: str = "params:method") -> Pipeline:
    """Create the stage: reference model, plan -> reference scores.

    Args:
        with_alternates: score the input ``alternates``, too.
        method: parameters or dataset of the method.
    """
    return Pipeline(
        [
            Node(
                score_reference,
                [
                    "reference_model",
                    "plan",
                    "questions",
                    method,
                    "params:scoring",
                    "reference_cache",
                    *(["alternates"] if with_alternates else []),
                ],
                "reference_scores",
                name="score_reference",
            )
        ],
        tags="reference",
    )
