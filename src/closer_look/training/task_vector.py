"""Arithmetic on weights: what a training has added can be subtracted instead (arXiv 2212.04089)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from closer_look.training.sharding import whole

if TYPE_CHECKING:
    from transformers import PreTrainedModel

INNER, OUTER = "lora_A", "lora_B"  # an adapter adds outer @ inner, with outer 0 at first


@contextmanager
def negated(model: PreTrainedModel, scale: float) -> Iterator[None]:
    """Turn the training inside the block into its negation: w becomes w - scale * (change of w).

    Of adapters it holds for what they add, outer @ inner. So once they have added something, in a
    chain of tasks, the inner weights stay as they are, and only the outer ones are trained.

    Args:
        model: its weights are trained inside the block.
        scale: the scaling coefficient of the task vector.
    """
    trained = {name: one for name, one in model.named_parameters() if one.requires_grad}
    outer = [one for name, one in trained.items() if OUTER in name]
    inner = [one for name, one in trained.items() if INNER in name]
    if any(whole(one.detach().any()) for one in outer):
        for one in inner:
            one.requires_grad_(False)
    changed = outer or list(trained.values())
    before = [one.detach().clone() for one in changed]
    yield
    with torch.no_grad():
        for one, start in zip(changed, before, strict=True):
            one.copy_(start - scale * (one - start))
    for one in inner:
        one.requires_grad_(True)
