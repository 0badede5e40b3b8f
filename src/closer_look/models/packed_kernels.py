"""Two more ways in which packed rows attend, for GPUs; the first is in ``packing``.

All three give the same. They differ in what a GPU has to do: groups gather keys and values, pad
them, and call the kernel once for each size of rows; "flex" gathers nothing, but is compiled, and
again when shapes change; "varlen" gathers keys and values, and calls one kernel, in bf16 or fp16
only. ``make gpu-check`` measures them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn.attention.flex_attention import create_block_mask
from transformers.integrations.flex_attention import flex_attention_forward

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.nn.attention.flex_attention import BlockMask

    from closer_look.models.tokens import Batch


class Tree:
    """Which packed tokens see which, as few numbers per token: N tokens, in any order.

    Sorted by their paths, the rows that share a token stand together. So a token lies on the path
    of another if the latter's first row is one of its own rows, and it is not deeper.
    """

    def __init__(self, batch: Batch) -> None:
        """Number the rows of a batch from ``packing.pack``."""
        paths = sorted(path.tolist() for path in batch["paths"].split(batch["path_lengths"]))
        first, last = torch.empty(2, batch["input_ids"].shape[1], dtype=torch.int32)  # (N,) each
        for rank, path in enumerate(paths):
            last[path] = rank  # later rows overwrite earlier ones
        for rank, path in reversed(list(enumerate(paths))):
            first[path] = rank
        self.depths = batch["position_ids"][0]  # (N,)
        self.first, self.last = (one.to(self.depths.device) for one in (first, last))
        self._masks: dict[int | None, BlockMask] = {}

    def mask(self, window: int | None) -> BlockMask:
        """Make the mask of a sliding window, (N, N), once for all layers that have it."""
        if window not in self._masks:
            first, last, depths = self.first, self.last, self.depths
            n_tokens = len(depths)
            longest = window or n_tokens

            def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
                is_shared = (first[key] <= first[query]) & (first[query] <= last[key])
                distance = depths[query] - depths[key]
                return is_shared & (distance >= 0) & (distance < longest)

            self._masks[window] = create_block_mask(
                sees, None, None, n_tokens, n_tokens, device=depths.device
            )
        return self._masks[window]


def attend_by_flex(
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    tree: Tree,
    sliding_window: int | None = None,
    **options,
) -> tuple[Tensor, None]:
    """Let tokens attend along their paths: (1, heads, N, size) -> (1, N, heads, size).

    Raises:
        ValueError: from transformers, if the model has attention dropout and is in training.
    """
    # Rotary embeddings leave queries and keys in fp32 where the rest is bf16.
    query, key = query.to(value.dtype), key.to(value.dtype)
    mask = tree.mask(sliding_window)
    return flex_attention_forward(module, query, key, value, mask, **options)[0], None


class Sequences:
    """Each row's own tokens, which end its path: R rows that have any, for a varlen kernel.

    The packed tokens are the own tokens of row after row, so the queries are there in this order.
    """

    def __init__(self, batch: Batch) -> None:
        """Lay out the rows of a batch from ``packing.pack``."""
        paths = batch["paths"].split(batch["path_lengths"])
        rows = [(n, path) for n, path in zip(batch["own_lengths"], paths, strict=True) if n]
        self.paths = torch.cat([path for _, path in rows])  # (sum of path lengths,)
        lengths = torch.tensor([(0, 0), *((n, len(path)) for n, path in rows)])  # (R + 1, 2)
        self.longest_query, self.longest_key = lengths.amax(0).tolist()
        ends = lengths.T.cumsum(1).int().contiguous().to(self.paths.device)
        self.query_ends, self.key_ends = ends  # (R + 1,) each, from 0


def attend_by_varlen(
    module: Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    sequences: Sequences,
    sliding_window: int | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_,
) -> tuple[Tensor, None]:
    """Let each row's own tokens attend to its path: (1, heads, N, size) -> (1, N, heads, size).

    Raises:
        ValueError: the model has attention dropout and is in training.
    """
    from torch.nn.attention import varlen  # of torch 2.10

    if dropout:
        raise ValueError("varlen attention has no dropout")
    # (N, heads, size); key and value may have fewer heads (grouped-query attention).
    query, key, value = (states[0].transpose(0, 1) for states in (query, key, value))
    attended = varlen.varlen_attn(
        query.to(value.dtype),
        key.to(value.dtype).index_select(0, sequences.paths),
        value.index_select(0, sequences.paths),
        sequences.query_ends,
        sequences.key_ends,
        sequences.longest_query,
        sequences.longest_key,
        scale=scaling,
        # Causal: a row's last query stands at its last key. The window counts tokens before it.
        window_size=(sliding_window - 1 if sliding_window else -1, 0),
        enable_gqa=True,
    )
    return attended[None], None
