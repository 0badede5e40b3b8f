"""Gradient checkpointing: the backward pass computes activations again, which then need no room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from accelerate.utils import AutocastKwargs

from closer_look.models.packing import takes_packed_rows

if TYPE_CHECKING:
    from transformers import Trainer


@contextmanager
def recomputing(trainer: Trainer) -> Iterator[None]:
    """Let a model's layers be computed again in the backward pass; then leave it as it was.

    The hooks that transformers adds for it cannot be pickled, as a model is for other processes.
    The backward pass casts weights again, too, so a packed pass keeps no halves of them; a pass of
    rows one by one casts each weight once for all rows.

    Args:
        trainer: its model takes rows as it will in training.
    """
    model = trainer.model
    if takes_packed_rows(model):
        trainer.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
    model.activation_checkpointing_enable()
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.disable_input_require_grads()  # which the line above leaves on most models
