"""Embeddings that are the output head, too: their gradient without a second one of their size."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@contextmanager
def tied_embeddings(model: PreTrainedModel) -> Iterator[None]:
    """Make the gradient of tied embeddings sparse: only the batch's tokens add to the head's.

    Otherwise autograd builds a second gradient of the whole vocabulary, almost all zeros, and adds
    it. Done only on a CPU. It is for one process alone: several would have to exchange a gradient
    that is sparse throughout.
    """
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    is_tied = head is not None and embeddings.weight is head.weight
    own = getattr(embeddings, "sparse", False)
    embeddings.sparse = own or (is_tied and model.device.type == "cpu")
    try:
        yield
    finally:
        embeddings.sparse = own
