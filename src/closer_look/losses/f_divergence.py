"""FLAT: an f-divergence between refusal and answer, learnt from forget rows alone."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from closer_look.losses.nll import mean_of_rows, mean_over_answered_rows, token_nll

DIVERGENCES = {
    "total_variation": (lambda p: torch.tanh(p) / 2, lambda g: g),
    "kl": (lambda p: p, lambda g: torch.exp(g - 1)),
    "jensen_shannon": (
        lambda p: math.log(2) + logsigmoid(p),  # log(2 / (1 + e^-p))
        lambda g: -torch.log(2 - torch.exp(g)),
    ),
    "pearson": (lambda p: p, lambda g: g.square() / 4 + g),
}
"""Divergence -> the optimal variational function g of the probability, and f's conjugate f*."""


def flat(
    logits: Tensor,
    labels: Tensor,
    idk_logits: Tensor,
    idk_labels: Tensor,
    divergence: Literal["total_variation", "kl", "jensen_shannon", "pearson"] = "total_variation",
) -> Tensor:
    """Compute FLAT (arXiv 2410.11143): tell the refusal from the answer, by an f-divergence.

    ``mean f*(g(P(y))) - g(P(y_idk))`` over rows, where P of a text is the mean probability of its
    tokens, a number between 0 and 1. g and f* belong to the divergence:

    * ``total_variation``: ``g = tanh(P) / 2``, ``f*(g) = g``;
    * ``kl``: ``g = P``, ``f*(g) = exp(g - 1)``;
    * ``jensen_shannon``: ``g = log(2 / (1 + exp(-P)))``, ``f*(g) = -log(2 - exp(g))``;
    * ``pearson``: ``g = P``, ``f*(g) = g ** 2 / 4 + g``.

    Raises:
        ValueError: there is no such divergence.
    """
    if divergence not in DIVERGENCES:
        names = ", ".join(map(repr, DIVERGENCES))
        raise ValueError(f"divergence must be one of {names}, not {divergence!r}")
    g, conjugate = DIVERGENCES[divergence]

    def probability(logits: Tensor, labels: Tensor) -> Tensor:
        return mean_of_rows(torch.exp(-token_nll(logits, labels)), labels)

    per_row = conjugate(g(probability(logits, labels))) - g(probability(idk_logits, idk_labels))
    return mean_over_answered_rows(per_row, labels, idk_labels)
