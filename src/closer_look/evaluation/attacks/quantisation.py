"""Quantisation: rounding the weights may undo an unlearning that moved them by little."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import pandas as pd
from pydantic import Field

from closer_look.evaluation.attacks.attack import AttackContext
from closer_look.evaluation.attacks.weights import ask_after
from closer_look.models.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Tensor

BLOCK = 64  # weights that share a scale in nf4, as in bitsandbytes

# Quantiles of a normal distribution, scaled to [-1, 1]: appendix E of arXiv 2305.14314.
NF4_LEVELS = (
    *(-1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453),
    *(-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0),
    *(0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224),
    *(0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0),
)


def quantisation(
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
    *,
    formats: Annotated[list[Literal["int8", "nf4"]], Field(min_length=1)],
) -> pd.DataFrame:
    """Ask again after the weights have been rounded (arXiv 2410.16454).

    The weights get the values that a quantised model computes with, at full width: the formats are
    written out here, so that the attack runs on every machine and without their kernels. Embeddings
    and the output head stay as they are. Adapters are merged before.

    Args:
        model: the model attacked, given back as it was.
        rows: the rows attacked.
        context: settings of generation.
        formats: "int8", with a scale for each row of a matrix, or "nf4", 4 bits with a scale for
            each block of 64 weights.

    Returns:
        See ``weights.ask_rows``; a setting for each format.
    """
    roundings = {"int8": ("int8", int8), "nf4": ("4 bits (nf4)", nf4)}
    changes = dict(roundings[name] for name in formats)
    return ask_after(changes, model, rows, context)


def int8(weight: Tensor) -> Tensor:
    """Round a matrix to 255 steps, from minus to plus the largest magnitude of each of its rows."""
    step = _magnitude(weight) / 127
    return (weight / step).round() * step


def nf4(weight: Tensor) -> Tensor:
    """Round a matrix to the 16 levels of NormalFloat, in blocks of 64 (arXiv 2305.14314)."""
    import torch
    from torch.nn.functional import pad

    blocks = pad(weight.flatten(), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
    scale = _magnitude(blocks)
    levels = torch.tensor(NF4_LEVELS, dtype=weight.dtype, device=weight.device)
    between = (levels[1:] + levels[:-1]) / 2
    rounded = levels[torch.bucketize(blocks / scale, between)] * scale
    return rounded.flatten()[: weight.numel()].view_as(weight)


def _magnitude(weight: Tensor) -> Tensor:
    """Return the largest magnitude of each row; of a row of zeros, any number serves."""
    largest = weight.abs().amax(-1, keepdim=True)
    return largest.where(largest > 0, 1)
