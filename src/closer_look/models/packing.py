"""Rows through a model in one forward pass, each token once, without padding.

The rows lie one behind the other as a single sequence. Rows that begin with the same tokens, such
as a chat template's system prompt or one question with two answers, share them: a row's own tokens
attend to what it shares and to themselves. Everything but attention is computed for all tokens at
once, and for no token twice.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from closer_look.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from closer_look.models.tokens import Batch

PACKED = "packed_rows"

Group = tuple["Tensor", "Tensor", "Tensor | None"]
"""Rows that attend in one call, padded with 0: positions of each row's own tokens, (R, q), and of
those on its path, (R, k); how deep on the path its own are, (R, q), None where all are its own.
"""


def pack(rows: Sequence[Tokens]) -> Batch:
    """Lay rows one behind the other; what they begin with in common is there once.

    A row's last token predicts nothing and is not there.

    Returns:
        Of N tokens and n answer tokens: ``input_ids`` and ``position_ids`` (1, N); ``labels`` (n,),
        the answers' tokens; ``predictors`` (n,), the positions whose logits predict them; a number
        a row, ``answer_lengths``, ``path_lengths``, its tokens but the last, and ``own_lengths``,
        those that no row before it begins with; ``paths``, the positions of each row's tokens, row
        after row; for attention ``groups`` of rows, and ``slots`` (N,), where each token lies among
        their own ones.
    """
    ids: list[int] = []
    depths: list[int] = []
    place: dict[tuple[int, int], int] = {}  # of a token that follows the one at a position
    paths, own_lengths = [], []
    for row in rows:
        n_before, path = len(ids), [-1]
        for depth, token in enumerate(row.prompt + row.answer[:-1]):
            step = (path[-1], token)
            if step not in place:
                place[step] = len(ids)
                ids.append(token)
                depths.append(depth)
            path.append(place[step])
        paths.append(path[1:])
        own_lengths.append(len(ids) - n_before)
    groups, slots = _group(paths, own_lengths)
    return {
        "input_ids": torch.tensor([ids]),
        "position_ids": torch.tensor([depths]),
        "labels": torch.tensor([token for row in rows for token in row.answer]),
        "predictors": torch.tensor(
            [
                position
                for row, path in zip(rows, paths, strict=True)
                for position in path[len(row.prompt) - 1 :]
            ]
        ),
        "answer_lengths": [len(row.answer) for row in rows],
        "own_lengths": own_lengths,
        "path_lengths": [len(path) for path in paths],
        "paths": torch.tensor([position for path in paths for position in path]),
        "groups": groups,
        "slots": slots,
    }


def _group(paths: list[list[int]], own_lengths: list[int]) -> tuple[list[Group], Tensor]:
    """Put rows of about the same size together: padding less than doubles either length."""
    of_size = defaultdict(list)
    for path, n_own in zip(paths, own_lengths, strict=True):
        if n_own:  # a row that was there before has no tokens of its own
            depths = torch.arange(len(path))[-n_own:]
            of_size[len(path).bit_length(), n_own.bit_length()].append((torch.tensor(path), depths))
    groups, slots, n_slots = [], torch.empty(sum(own_lengths), dtype=torch.long), 0
    for rows in of_size.values():
        own = [path[depths] for path, depths in rows]
        columns = (own, *zip(*rows, strict=True))
        own_padded, path_padded, depths_padded = (
            pad_sequence(column, batch_first=True) for column in columns
        )
        is_causal = all(len(path) == len(depths) for path, depths in rows)
        groups.append((own_padded, path_padded, None if is_causal else depths_padded))
        for positions in own:
            slots[positions] = n_slots + torch.arange(len(positions))
            n_slots += own_padded.shape[1]
    return groups, slots


@contextmanager
def packed_attention(model: PreTrainedModel) -> Iterator[None]:
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
    row = Tokens([1], [2, 1])
    one, other = (
        answer_logits(model, send_to_device(pack([Tokens([first], [2]), row]), model.device))[1:]
        for first in (0, 2)
    )
    model.train(was_training)
    return not torch.allclose(one, other, rtol=1e-3, atol=1e-6)


def answer_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Logits that predict ``batch["labels"]``, (n, V)."""
    if _takes_packed_rows(model):  # no others are computed
        return _forward(model, batch, logits_to_keep=batch["predictors"]).logits.flatten(0, 1)
    return _row_by_row(batch, lambda ids: model(input_ids=ids, use_cache=False).logits)


def distinct_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """``answer_logits``, but those of a token that several rows share only once, (m, V).

    Returns:
        The logits, and which of them predicts each label, (n,).
    """
    if _takes_packed_rows(model):
        predictors, place = batch["predictors"].unique(return_inverse=True)
        return answer_logits(model, batch | {"predictors": predictors}), place
    return answer_logits(model, batch), torch.arange(len(batch["labels"]), device=model.device)


def answer_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Hidden states from which the output head makes ``answer_logits``, (n, hidden size)."""
    decoder = model.get_decoder()
    if _takes_packed_rows(model):
        return _forward(decoder, batch).last_hidden_state[0, batch["predictors"]]
    return _row_by_row(batch, lambda ids: decoder(input_ids=ids, use_cache=False).last_hidden_state)


def _takes_packed_rows(model: Module) -> bool:
    model = getattr(model, "module", model)  # inside a wrapper for several processes
    return model.config._attn_implementation == PACKED


def _forward(module: Module, batch: Batch, **options):
    names = ("input_ids", "position_ids", "groups", "slots")
    return module(**{name: batch[name] for name in names}, use_cache=False, **options)


def _row_by_row(batch: Batch, forward: Callable[[Tensor], Tensor]) -> Tensor:
    paths = batch["paths"].split(batch["path_lengths"])
    values = [forward(batch["input_ids"][:, path])[0] for path in paths]
    lengths = batch["answer_lengths"]
    return torch.cat([of_row[-n:] for of_row, n in zip(values, lengths, strict=True)])


def _attend_within_rows(
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    groups: list[Group],
    slots: Tensor,
    sliding_window: int | None = None,
    **options,
) -> tuple[Tensor, None]:
    """Let each row's own tokens see its path: (1, heads, N, size) -> (1, N, heads, size)."""
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    attended = []
    for own, path, depths in groups:
        states = (_take(query, own), _take(key, path), _take(value, path))
        mask = _mask(depths, path, sliding_window)
        attended.append(sdpa_attention_forward(module, *states, mask, **options)[0].flatten(0, 1))
    return torch.cat(attended).index_select(0, slots)[None], None


def _take(states: Tensor, positions: Tensor) -> Tensor:
    """States of groups of tokens: (N, heads, size) -> (R, heads, q or k, size)."""
    # Its gradient takes half of the time that the one of an index in brackets takes.
    taken = states.index_select(0, positions.flatten())
    return taken.unflatten(0, positions.shape).transpose(1, 2)


def _mask(depths: Tensor | None, path: Tensor, window: int | None) -> Tensor | None:
    """What tokens at these depths of a path see, (R, 1, q, k): those before, as far as the window.

    None is what a causal model does by itself.
    """
    along = torch.arange(path.shape[1], device=path.device)
    if depths is None:
        if window is None or len(along) <= window:
            return None
        depths = along[None]
    distance = depths[:, None, :, None] - along
    return (distance >= 0) & (distance < (window or len(along)))


AttentionInterface.register(PACKED, _attend_within_rows)
