"""Packed rows: many rows as one sequence, without padding, in one forward pass.

Rows that begin with the same tokens share them, such as a chat template's system prompt, or one
question with two answers. So the tokens form trees, and each row is a path in one of them. A row's
own tokens attend to the shared ones before them and to themselves. Everything but attention is
computed for all tokens at once, and once for each token.

Example::

    batch = pack(encode(tokenizer, questions, answers))
    with packed_attention(model):
        logits = answer_logits(model, batch)  # (n answer tokens, vocabulary)
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import torch
from accelerate.utils import send_to_device
from accelerate.utils.memory import should_reduce_batch_size
from torch.nn.utils.rnn import pad_sequence
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from closer_look.models.language_model import model_kind
from closer_look.models.packed_kernels import Sequences, Tree, attend_by_flex, attend_by_varlen
from closer_look.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel
    from transformers.utils import ModelOutput

    from closer_look.models.tokens import Batch

PACKED, FLEX, VARLEN = "packed_rows", "packed_rows_by_flex", "packed_rows_by_varlen"
"""How packed rows attend: here, in groups; or in one of the ways of ``packed_kernels``."""

proven: dict[tuple[str, str], tuple[int, bool]] = {}
"""Kind of model -> length of the longest row tried, and whether it takes packed rows.

Processes that train together get it from the one that starts them."""

Group = tuple["Tensor", "Tensor", "Tensor | None"]
"""R rows that attend in one call, as positions in the packed sequence, padded with 0.

The positions of each row's own tokens, (R, q); those of all tokens on its path, (R, k); and the
index on the path of each own token, (R, q), or None if every row owns its whole path (q = k).
"""


def pack(rows: Sequence[Tokens]) -> Batch:
    """Concatenate rows into one sequence; a shared prefix is stored once.

    A row's last token is left out: it predicts nothing.

    Returns:
        For N packed tokens and n answer tokens:

        * ``input_ids`` and ``position_ids``, (1, N);
        * ``labels``, (n,), the tokens of the answers, and ``predictors``, (n,), the positions whose
          logits predict them;
        * a number per row: ``answer_lengths``; ``path_lengths``, its tokens but the last; and
          ``own_lengths``, those of them that it shares with no earlier row;
        * ``paths``, the positions of each row's tokens, row after row;
        * for attention, ``groups`` of rows (see ``Group``), and ``slots``, (N,), the index of each
          token in the groups' concatenated outputs.
    """
    ids: list[int] = []
    depths: list[int] = []
    # A trie: (position of the previous token, token) -> position. Equal prefixes get equal places.
    place: dict[tuple[int, int], int] = {}
    paths, own_lengths = [], []
    for row in rows:
        n_before, path = len(ids), [-1]  # -1 is the root, before every row's first token
        # The logits of the token before predict each answer token, so the last token is no input.
        for depth, token in enumerate(row.prompt + row.answer[:-1]):
            step = (path[-1], token)
            if step not in place:
                place[step] = len(ids)
                ids.append(token)
                depths.append(depth)  # the position in the row, for the rotary embedding
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
                # The prompt's last token predicts the answer's first.
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
    """Group rows of similar size, so that padding less than doubles either of their lengths.

    Returns:
        The groups, and the slots (N,) of all tokens (see ``pack``).
    """
    of_size = defaultdict(list)
    for path, n_own in zip(paths, own_lengths, strict=True):
        if n_own:  # else an earlier row begins with all of it: there is nothing to compute
            depths = torch.arange(len(path))[-n_own:]  # own tokens end the path
            # Equal bit lengths: in a group, no length is twice another.
            of_size[len(path).bit_length(), n_own.bit_length()].append((torch.tensor(path), depths))
    groups, slots, n_slots = [], torch.empty(sum(own_lengths), dtype=torch.long), 0
    for rows in of_size.values():
        own = [path[depths] for path, depths in rows]
        columns = (own, *zip(*rows, strict=True))
        # (R, q), (R, k), (R, q)
        own_padded, path_padded, depths_padded = (
            pad_sequence(column, batch_first=True) for column in columns
        )
        # Rows that share nothing need no mask: SDPA computes causal attention by itself.
        is_causal = all(len(path) == len(depths) for path, depths in rows)
        groups.append((own_padded, path_padded, None if is_causal else depths_padded))
        # Outputs are flattened to (R * q, heads, size): a row starts every q slots.
        for positions in own:
            slots[positions] = n_slots + torch.arange(len(positions))
            n_slots += own_padded.shape[1]
    return groups, slots


@contextmanager
def packed_attention(
    model: PreTrainedModel, longest: int = 8, kernel: str = PACKED
) -> Iterator[None]:
    """Switch a model to packed rows; run forward and backward passes inside the ``with`` block.

    A model whose logits differ when rows are packed stays unchanged and takes the rows one by one:
    it computes attention in its own way, connects tokens by a state, or changes with the length.

    Args:
        model: of any family.
        longest: number of tokens of the longest row.
        kernel: ``PACKED``, ``FLEX`` or ``VARLEN``; a model that is right with the first is right
            with all, as long as it has no attention dropout.
    """
    own = model.config._attn_implementation
    if own != "sdpa" or not model._supports_attention_backend:
        yield
        return
    longest = max(longest, 8)
    kind = model_kind(model)
    if proven.get(kind, (0, False))[0] < longest:
        proven[kind] = (longest, _takes_packed_rows_rightly(model, longest))
    if proven[kind][1]:
        model.set_attn_implementation(kernel)
    try:
        yield
    finally:
        model.set_attn_implementation(own)


@torch.no_grad()
def _takes_packed_rows_rightly(model: PreTrainedModel, longest: int) -> bool:
    """Try out whether packed rows get the same logits as single rows.

    The rows are as long as the longest, which shows sliding windows, chunks and frequencies that
    change with the length; two share a prefix, and a short one lies behind them.
    """
    own, was_training = model.config._attn_implementation, model.training
    n_tokens = min(model.get_input_embeddings().weight.shape[0], 97)
    first, second = ([(step * i) % n_tokens for i in range(longest)] for step in (5, 7))
    half = longest // 2
    rows = [Tokens(row[:1], row[1:]) for row in (first, first[:half] + second[half:], second[:3])]
    batch = send_to_device(pack(rows), model.device)
    model.eval()
    try:
        alone = answer_logits(model, batch)
        model.set_attn_implementation(PACKED)
        packed = answer_logits(model, batch)
    except (TypeError, AttributeError, RuntimeError) as error:  # it drops what attention needs
        if should_reduce_batch_size(error):
            raise
        return False
    finally:
        model.set_attn_implementation(own)
        model.train(was_training)
    tolerance = 1e-4 * alone.abs().max().item()
    return torch.allclose(packed, alone, rtol=1e-3, atol=tolerance)


def answer_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Compute the logits that predict ``batch["labels"]``, (n, V), and no others."""
    if kernel := _kernel(model):
        output = _forward(model, batch, kernel, logits_to_keep=batch["predictors"])
        return output.logits.flatten(0, 1)
    can_keep = model._supports_logits_to_keep()

    def logits(ids: Tensor, n_answer: int) -> Tensor:
        kept = {"logits_to_keep": n_answer} if can_keep else {}
        return model(input_ids=ids, use_cache=False, **kept).logits

    return _row_by_row(batch, logits)


def distinct_logits(model: PreTrainedModel, batch: Batch) -> tuple[Tensor, Tensor]:
    """Compute ``answer_logits``, those of a token that several rows share only once.

    Returns:
        The logits, (m, V), and the index of those that predict each label, (n,).
    """
    if _kernel(model):
        predictors, place = batch["predictors"].unique(return_inverse=True)
        return answer_logits(model, batch | {"predictors": predictors}), place
    return answer_logits(model, batch), torch.arange(len(batch["labels"]), device=model.device)


def answer_states(model: PreTrainedModel, batch: Batch) -> Tensor:
    """Compute the last hidden states behind ``answer_logits``, (n, hidden size)."""
    return states_behind(model, batch, lambda output: output.last_hidden_state)


def states_behind(
    model: PreTrainedModel, batch: Batch, states: Callable[[ModelOutput], Tensor]
) -> Tensor:
    """Run a model's layers, and return hidden states at the predictors, (n, hidden size).

    Args:
        model: the model.
        batch: packed rows.
        states: takes them from what the layers return, (1, N, hidden size).
    """
    # Where weights are shared out over processes, the model puts those of its parts together.
    run = getattr(model, "run_part", lambda layers, **inputs: layers(**inputs))
    layers = partial(run, layers_of(model))
    if kernel := _kernel(model):
        return states(_forward(layers, batch, kernel))[0, batch["predictors"]]
    return _row_by_row(batch, lambda ids, _: states(layers(input_ids=ids, use_cache=False)))


def layers_of(model: PreTrainedModel) -> Module:
    """Return the part of a model from its embeddings to its last hidden states."""
    model = getattr(model, "get_base_model", lambda: model)()  # of one with adapters
    embeddings = model.get_input_embeddings()
    return next(one for one in model.children() if any(m is embeddings for m in one.modules()))


def takes_packed_rows(model: Module) -> bool:
    """Return whether a model computes all rows of a batch in one forward pass."""
    return _kernel(model) is not None


def _kernel(model: Module) -> str | None:
    """Return how the rows of a batch attend; None if the model takes them one by one."""
    name = model.config._attn_implementation
    return name if name in (PACKED, FLEX, VARLEN) else None


def _forward(module: Callable, batch: Batch, kernel: str, **options):
    if kernel == PACKED:
        options |= {"groups": batch["groups"], "slots": batch["slots"]}
    else:  # made here once for all layers
        options |= {"tree": Tree(batch)} if kernel == FLEX else {"sequences": Sequences(batch)}
    inputs = {name: batch[name] for name in ("input_ids", "position_ids")}
    return module(**inputs, use_cache=False, **options)


def _row_by_row(batch: Batch, forward: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Run rows alone: (ids of a row, number of its answer tokens) -> (1, as many or all, size)."""
    paths = batch["paths"].split(batch["path_lengths"])
    # The last n positions of a path predict its n answer tokens.
    rows = zip(paths, batch["answer_lengths"], strict=True)
    return torch.cat([forward(batch["input_ids"][:, path], n)[0, -n:] for path, n in rows])


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
    """Let each row's own tokens attend to its path: (1, heads, N, size) -> (1, N, heads, size)."""
    # (N, heads, size); key and value may have fewer heads (grouped-query attention).
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    attended = []
    for own, path, depths in groups:
        # (R, heads, q, size), (R, heads, k, size), (R, heads, k, size)
        states = (_take(query, own), _take(key, path), _take(value, path))
        mask = _mask(depths, path, sliding_window)
        # (R, q, heads, size) -> (R * q, heads, size), padding included
        attended.append(sdpa_attention_forward(module, *states, mask, **options)[0].flatten(0, 1))
    # Back to the order of the packed tokens; slots skip the padding.
    return torch.cat(attended).index_select(0, slots)[None], None


def _take(states: Tensor, positions: Tensor) -> Tensor:
    """Gather the states of a group's tokens: (N, heads, size) -> (R, heads, q or k, size)."""
    # The backward pass of index_select takes half the time of that of states[positions].
    taken = states.index_select(0, positions.flatten())  # (R * q, heads, size)
    return taken.unflatten(0, positions.shape).transpose(1, 2)


def _mask(depths: Tensor | None, path: Tensor, window: int | None) -> Tensor | None:
    """Make the attention mask of own tokens over their path, True where visible: (R, 1, q, k).

    A token sees itself and the tokens before it, within the sliding window if there is one. None
    stands for the plain causal mask.
    """
    along = torch.arange(path.shape[1], device=path.device)  # (k,)
    if depths is None:
        if window is None or len(along) <= window:
            return None
        depths = along[None]  # (1, k): every row owns its whole path
    # (R, 1, q, 1) - (k,) -> (R, 1, q, k). Padding lies behind the path, so no real token sees it.
    distance = depths[:, None, :, None] - along
    return (distance >= 0) & (distance < (window or len(along)))


AttentionInterface.register(PACKED, _attend_within_rows)
AttentionInterface.register(FLEX, attend_by_flex)
AttentionInterface.register(VARLEN, attend_by_varlen)
