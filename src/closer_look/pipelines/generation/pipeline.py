"""The generation stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import generate_answers, score_answers


def create_pipeline() -> Pipeline:
    """Model, rows to evaluate -> generations, scores."""
    return Pipeline(
        [
            Node(
                generate_answers,
                ["model", "evaluation", "params:generation"],
                "generations",
                name="generate_answers",
            ),
            Node(
                score_answers,
                ["model", "evaluation", "params:scoring"],
                "scores",
                name="score_answers",
            ),
        ],
        tags="generation",
    )
