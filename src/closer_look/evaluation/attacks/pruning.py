"""Pruning: without its smallest weights, a model may lose what hides an answer."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
from pydantic import Field

from closer_look.evaluation.attacks.attack import AttackContext
from closer_look.evaluation.attacks.weights import ask_after
from closer_look.models.language_model import LanguageModel


def pruning(
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
    *,
    shares: Annotated[list[Annotated[float, Field(gt=0, lt=1)]], Field(min_length=1)],
) -> pd.DataFrame:
    """Ask again after the weights of the smallest magnitude have been set to 0.

    In each matrix of the layers by itself; embeddings and the output head stay as they are.
    Adapters are merged before.

    Args:
        model: the model attacked, given back as it was.
        rows: the rows attacked.
        context: settings of generation.
        shares: of the weights, between 0 and 1.

    Returns:
        See ``weights.ask_rows``; a setting for each share.
    """
    from torch.nn.utils.prune import L1Unstructured

    changes = {
        f"without the smallest {100 * share:g} % of weights": L1Unstructured(amount=share).prune
        for share in shares
    }
    return ask_after(changes, model, rows, context)
