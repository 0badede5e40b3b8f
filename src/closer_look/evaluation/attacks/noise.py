"""Noise: a little of it on all weights may break what hides an answer before the answer."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import pandas as pd
from pydantic import Field, PositiveFloat

from closer_look.evaluation.attacks.attack import AttackContext
from closer_look.evaluation.attacks.weights import ask_after
from closer_look.models.language_model import LanguageModel

if TYPE_CHECKING:
    from torch import Generator, Tensor


def noise(
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
    *,
    levels: Annotated[list[PositiveFloat], Field(min_length=1)],
) -> pd.DataFrame:
    """Ask again after Gaussian noise has been added to the weights.

    To each matrix of the layers in proportion to the standard deviation of its own weights;
    embeddings and the output head stay as they are. Adapters are merged before.

    Args:
        model: the model attacked, given back as it was.
        rows: the rows attacked.
        context: settings of generation, and the seed of the noise; all levels have the same noise,
            larger or smaller.
        levels: standard deviation of the noise, as a share of that of the weights.

    Returns:
        See ``weights.ask_rows``; a setting for each level.
    """
    import torch

    changes = {
        f"noise of {100 * level:g} %": partial(
            _with_noise, level=level, generator=torch.Generator().manual_seed(context.seed)
        )
        for level in levels
    }
    return ask_after(changes, model, rows, context)


def _with_noise(weight: Tensor, level: float, generator: Generator) -> Tensor:
    import torch

    drawn = torch.randn(weight.shape, generator=generator)  # on the CPU: equal on every device
    return weight + level * weight.std() * drawn.to(weight)
