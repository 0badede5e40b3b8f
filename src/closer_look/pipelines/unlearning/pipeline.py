"""The pipelines of the unlearning stage."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from kedro.pipeline import Node, Pipeline

from .nodes import draw_own_plan, instruct, sample_alternates, unlearn


@cache  # the same for every cell
def create_pipeline(
    *, with_alternates: bool = False, with_seed: bool = False, method: str = "params:method"
) -> Pipeline:
    """Create the stage: previous model, plan, reference scores -> unlearned model.

    Args:
        with_alternates: train on the input ``alternates``, too.
        with_seed: use the input ``seed`` in place of the parameter.
        method: parameters or dataset of the method.
    """
    names = ["previous_model", "plan", "questions", "reference_scores", "training_checkpoints"]
    inputs = {name: name for name in [*names, *_optional(with_alternates, with_seed)]}
    inputs |= {"method": method, "unlearning": "params:unlearning"}
    return Pipeline(
        [Node(unlearn, inputs, ["model", "training_log"], name="unlearn")], tags="unlearning"
    )


def _optional(with_alternates: bool, with_seed: bool) -> list[str]:
    return ["alternates"] * with_alternates + ["seed"] * with_seed


@cache
def create_instruction_pipeline() -> Pipeline:
    """Create the stage of a method that trains nothing: target model -> the model, instructed."""
    inputs = ["target_model", "plan", "questions", "params:method"]
    return Pipeline(
        [Node(instruct, inputs, ["model", "training_log"], name="instruct")], tags="unlearning"
    )


@cache
def create_plan_pipeline(*, with_seed: bool = False, method: str = "params:method") -> Pipeline:
    """Create the pipeline of a method with epochs of its own: plan of all -> its own plan."""
    inputs = ["questions", "refusals", "plan", "params:forget_set", method]
    inputs += ["seed"] * with_seed
    return Pipeline(
        [Node(draw_own_plan, inputs, "own_plan", name="draw_own_plan")], tags="unlearning"
    )


def create_alternates_pipeline(plans: Sequence[str], *, with_seed: bool = False) -> Pipeline:
    """Create the pipeline that makes a method's alternates: target model, plans -> alternates."""
    names = ("method", "unlearning", "generation")
    inputs = {name: name for name in ["target_model", "questions", *["seed"] * with_seed]}
    inputs |= {name: f"params:{name}" for name in names} | {plan: plan for plan in plans}
    node = Node(sample_alternates, inputs, "alternates", name="sample_alternates")
    return Pipeline([node], tags="unlearning")
