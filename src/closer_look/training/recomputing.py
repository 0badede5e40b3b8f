"""Gradient checkpointing: the backward pass computes activations again, which then need no room."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Let a model's layers be computed again in the backward pass; then leave it as it was.

    The hooks that transformers adds for it cannot be pickled, as a model is for other processes.
    """
    model.activation_checkpointing_enable()
    try:
        yield
    finally:
        model.activation_checkpointing_disable()
        model.disable_input_require_grads()  # which the line above leaves on most models
