"""The pipeline of the generation stage."""

from functools import cache

from kedro.pipeline import Node, Pipeline

from .nodes import fingerprint_model, generate_answers, score_answers


@cache  # the same for every cell
def create_pipeline(*, with_holdout: bool = False) -> Pipeline:
    """Create the stage: model, rows to evaluate -> fingerprint, scores, generations.

    Args:
        with_holdout: score the rows of the input ``holdout``, too.
    """
    holdout = ["holdout"] if with_holdout else []
    return Pipeline(
        [
            Node(fingerprint_model, ["model"], "fingerprint", name="fingerprint_model"),
            Node(
                score_answers,
                ["model", "evaluation", "params:scoring", *holdout],
                "scores",
                name="score_answers",
            ),
            Node(
                generate_answers,
                ["model", "evaluation", "scores", "params:generation"],
                "generations",
                name="generate_answers",
            ),
        ],
        tags="generation",
    )
