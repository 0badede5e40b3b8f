"""The pipelines of the stress stage."""

from collections.abc import Collection, Sequence

from kedro.pipeline import Node, Pipeline

from closer_look.data.cells import Cell

from .nodes import (
    attack_model,
    draw_attacked_rows,
    judge_attack,
    measure_residual,
    stack_recovered,
)


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


def create_attack_pipeline(other_models: Sequence[str] = ()) -> Pipeline:
    """Create the stage for one model and one attack: rows -> what was attacked and recovered.

    Args:
        other_models: inputs that the attack gets, too: "target_model", "retain_only_model".
    """
    inputs = {name: name for name in ("model", "attacked_rows", "questions", *other_models)}
    groups = ("attack", "unlearning", "generation", "scoring", "stress")
    inputs |= {group: f"params:{group}" for group in groups}
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


def create_results_pipeline(
    scenario: str,
    task: str,
    models: Sequence[Cell],
    attacked: Sequence[Cell],
    names: Collection[str],
) -> Pipeline:
    """Create the pipeline that puts together what all attacks got back.

    Args:
        scenario: names the outputs.
        task: name of the last task.
        models: cells of the models attacked.
        attacked: cells of the attacks on them.
        names: all attacks, those that could not be made among them.
    """
    inputs = {cell.namespace: cell.dataset("row_metrics") for cell in models}
    inputs |= {cell.namespace: cell.dataset("recovered") for cell in attacked}
    parameters = {name: f"params:attacks.{name}" for name in names}
    return Pipeline(
        [
            Node(
                stack_recovered,
                {"attacked_rows": f"attacked_rows_{task}"} | inputs,
                f"{scenario}.recovered",
                name="stack_recovered",
                namespace=scenario,
            ),
            Node(
                measure_residual,
                {"recovered": f"{scenario}.recovered", "parameters": "params:metrics"} | parameters,
                [f"{scenario}.attack_results", f"{scenario}.residual_knowledge"],
                name="measure_residual",
                namespace=scenario,
            ),
        ],
        tags="stress",
    )
