"""The generation stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import generate_answers, score_answers


def create_pipeline() -> Pipeline:
    """Model, rows to evaluate -> scores, generations."""
    return Pipeline(
        [
            Node(
                score_answers,
                ["model", "evaluation", "params:scoring"],
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
