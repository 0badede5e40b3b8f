"""The pipelines of the stress stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import attack_model, draw_attacked_rows, judge_attack


def create_pipeline(task: str) -> Pipeline:
    """Create the pipeline that draws the rows to attack after a task, which all attacks share."""
    return Pipeline(
        [
            Node(
                draw_attacked_rows,
                [f"evaluation_{task}", "params:stress", "params:experiment", "params:attacks"],
                f"attacked_rows_{task}",
                name=f"draw_attacked_rows_{task}",
            )
        ],
        tags="stress",
    )


def create_attack_pipeline(*, with_retain_only: bool = False) -> Pipeline:
    """Create the stage for one model and one attack: rows -> what was attacked and recovered.

    Args:
        with_retain_only: hand the attack the input ``retain_only_model``.
    """
    inputs = ["model", "attacked_rows", "questions", "params:attack", "params:unlearning"]
    inputs += ["params:generation", "params:scoring", "params:stress"]
    if with_retain_only:
        inputs.append("retain_only_model")
    return Pipeline(
        [
            Node(attack_model, inputs, "attacked", name="attack_model"),
            Node(
                judge_attack,
                ["attacked", "attacked_rows", "params:judges"],
                "recovered",
                name="judge_attack",
            ),
        ],
        tags="stress",
    )
