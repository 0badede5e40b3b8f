"""Rows of different lengths through a model in one forward pass, without padding.

The rows lie one behind the other as a single sequence; each attends to itself alone. Everything
but attention is computed for all tokens at once, and for no token that is not there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from typing import TYPE_CHECKING

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from closer_look.tokens import Tokens

PACKED = "packed_rows"


def pack(rows: Sequence[Tokens]) -> dict[str, Tensor | list[int]]:
    """Lay rows one behind the other.

    Returns:
        Of N tokens, n of which are answers: ``input_ids`` and ``position_ids`` (1, N); ``labels``
        (n,), the answers' tokens; ``predictors`` (n,), the positions of the tokens before them,
        whose logits predict them; ``row_lengths`` and ``answer_lengths``, a number a row.
    """
    lengths = [len(row) for row in rows]
    ends = accumulate(lengths)
    return {
        "input_ids": torch.tensor([[i for row in rows for i in row.prompt + row.answer]]),
        "position_ids": torch.tensor([[i for length in lengths for i in range(length)]]),
        "labels": torch.tensor([i for row in rows for i in row.answer]),
        "predictors": torch.tensor(
            [i for row, end in zip(rows, ends, strict=True) for i in _predictors(row, end)]
        ),
        "row_lengths": lengths,
        "answer_lengths": [len(row.answer) for row in rows],
    }


def _predictors(row: Tokens, end: int) -> range:
    return range(end - len(row.answer) - 1, end - 1)


@contextmanager
def rows_kept_apart(model: PreTrainedModel) -> Iterator[None]:
    """Let the model take packed rows: forward and backward passes belong inside.

    A model that computes attention by itself, or passes on something else from token to token (a
    state, a convolution), is left as it is, and takes the rows one by one.
    """
    own = model.config._attn_implementation
    if own != "sdpa" or not model._supports_attention_backend:
        yield
        return
    model.set_attn_implementation(PACKED)
    try:
        if _mixes_rows(model):
            model.set_attn_implementation(own)
        yield
    finally:
        model.set_attn_implementation(own)


@torch.no_grad()
def _mixes_rows(model: PreTrainedModel) -> bool:
    """Try whether a row's logits depend on the row in front of it."""
    was_training = model.training
    model.eval()
    ids = torch.tensor([[0, 1, 2, 1], [2, 2, 2, 1]], device=model.device)
    positions = torch.tensor([[0, 1, 0, 1]], device=model.device)
    batches = [
        {"input_ids": row[None], "position_ids": positions, "row_lengths": [2, 2]} for row in ids
    ]
    one, other = (_forward(model, batch).logits[0, 2:] for batch in batches)
    model.train(was_training)
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-6)


def answer_logits(model: PreTrainedModel, batch: dict[str, Tensor | list[int]]) -> Tensor:
    """Logits that predict ``batch["labels"]``, (n, V); no others are computed."""
    if _takes_packed_rows(model):
        return _forward(model, batch, logits_to_keep=batch["predictors"]).logits[0]
    rows = batch["input_ids"].split(batch["row_lengths"], dim=1)
    logits = [model(input_ids=row, use_cache=False).logits[0] for row in rows]
    return torch.cat(logits)[batch["predictors"]]


def answer_states(model: PreTrainedModel, batch: dict[str, Tensor | list[int]]) -> Tensor:
    """Hidden states from which the output head makes ``answer_logits``, (n, hidden size)."""
    decoder = model.get_decoder()
    if _takes_packed_rows(model):
        states = _forward(decoder, batch).last_hidden_state[0]
    else:
        rows = batch["input_ids"].split(batch["row_lengths"], dim=1)
        states = torch.cat(
            [decoder(input_ids=row, use_cache=False).last_hidden_state[0] for row in rows]
        )
    return states[batch["predictors"]]


def _takes_packed_rows(model: Module) -> bool:
    model = getattr(model, "module", model)  # inside a wrapper for several processes
    return model.config._attn_implementation == PACKED


def _forward(module: Module, batch: dict[str, Tensor | list[int]], **options):
    names = ("input_ids", "position_ids", "row_lengths")
    return module(**{name: batch[name] for name in names}, use_cache=False, **options)


def _attend_within_rows(
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    row_lengths: list[int],
    sliding_window: int | None = None,
    **options,
) -> tuple[Tensor, None]:
    """Attention of each row by itself: (1, heads, N, head size) -> (1, N, heads, head size)."""
    rows = zip(*(one.split(row_lengths, dim=2) for one in (query, key, value)), strict=True)
    attended = [
        sdpa_attention_forward(
            module, *row, _window(length, sliding_window, query.device), **options
        )[0]
        for length, row in zip(row_lengths, rows, strict=True)
    ]
    return torch.cat(attended, dim=1), None


def _window(length: int, size: int | None, device: torch.device) -> Tensor | None:
    """Mask of a row that is longer than the window in which a token sees those before it."""
    if size is None or length <= size:
        return None
    seen = torch.ones(length, length, dtype=torch.bool, device=device)
    return seen.tril().triu(1 - size)


AttentionInterface.register(PACKED, _attend_within_rows)
