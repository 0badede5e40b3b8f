"""Negative log-likelihoods (nats), from which every loss but two is made."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import torch
from annotated_types import Ge, Gt
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import cross_entropy

IGNORE = -100
Positive = Annotated[float, Gt(0)]
NonNegative = Annotated[float, Ge(0)]
"""Bounds of hyperparameters: what YAML gives is held to a loss's annotations."""

PIECE = 64  # positions at a time where not all are needed: few for the cache, many for a product


def in_full_precision(logits: Tensor) -> Tensor:
    """Return float16 and bfloat16 logits as float32, float32 and float64 as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def answer_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Select the positions that have a label, where they are not yet.

    They are selected before anything is computed: question and padding, often most of the batch,
    then cost no (positions, vocabulary) tensor, and whatever stands there gets no gradient.

    Args:
        logits: (B, T, V), or (positions with a label, V), which are not copied.
        labels: (B, T), -100 where there is no label.

    Returns:
        (positions with a label, V), in full precision.
    """
    return in_full_precision(logits if logits.dim() == 2 else logits[labels != IGNORE])


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the nll of each answer token, (number of answer tokens,)."""
    return cross_entropy(answer_logits(logits, labels), labels[labels != IGNORE], reduction="none")


def sequence_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum the nll over the answer tokens of each row.

    ``nll(y|x)`` of arXiv 2410.08109: a sum, not a mean.

    Args:
        logits: (B, T, V), where ``logits[b, t]`` predicts ``labels[b, t]``, or (n, V).
        labels: (B, T), -100 where there is no label.

    Returns:
        (B,), in nats; 0 for a row without a label.
    """
    tokens = token_nll(logits, labels)
    return tokens.new_zeros(labels.shape).masked_scatter(labels != IGNORE, tokens).sum(dim=-1)


def mean_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Average the nll over all answer tokens of the batch: cross-entropy, a scalar."""
    return mean_or_zero(token_nll(logits, labels))


def mean_or_zero(values: Tensor) -> Tensor:
    """Return the mean, or 0 (with a zero gradient, where ``mean`` gives NaN) of no values."""
    return values.sum() / max(values.numel(), 1)


def mean_over_positions(function: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """Average a function over positions; its intermediate results are never all there at once.

    They are computed for a piece of the positions at a time, and the gradient in the logits right
    after the values: beside the logits and it, no (positions, vocabulary) tensor is ever there as a
    whole. No more positions than a piece has are left to autograd.

    Args:
        function: ((n, V), (n, ...), ...) -> (n,), each position by itself.
        logits: (positions, V).
        others: (positions, ...), aligned; they get no gradient.

    Returns:
        Scalar; 0 (with a zero gradient) of no positions.
    """
    others = tuple(one.detach() for one in others)
    if len(logits) <= PIECE:  # as where a function of pieces is itself a mean
        return mean_or_zero(function(logits, *others))
    return _MeanOverPositions.apply(function, logits, *others)


class _MeanOverPositions(Function):
    @staticmethod
    def forward(ctx, function, logits, *others):
        pieces = list(zip(*(one.split(PIECE) for one in (logits, *others)), strict=True))
        n_positions = len(logits)
        if not ctx.needs_input_grad[1]:
            return torch.stack([function(*piece).sum() for piece in pieces]).sum() / n_positions
        gradient, shares = torch.empty_like(logits), []
        for (of_logits, *of_others), of_gradient in zip(pieces, gradient.split(PIECE), strict=True):
            with torch.enable_grad():
                piece = of_logits.detach().requires_grad_()
                share = function(piece, *of_others).sum() / n_positions
                of_gradient.copy_(*torch.autograd.grad(share, piece))
            shares.append(share.detach())
        ctx.save_for_backward(gradient)
        return torch.stack(shares).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, of_mean):
        (gradient,) = ctx.saved_tensors
        if of_mean != 1:  # as it mostly is, and a product is a copy
            gradient = gradient * of_mean
        return (None, gradient, *(None for _ in ctx.needs_input_grad[2:]))


def mean_over_answered_rows(values: Tensor, *labels: Tensor) -> Tensor:
    """Average over the rows that have at least one label in each of ``labels``.

    A row whose answer was truncated away has an nll of 0, that is a probability of 1: it must not
    be compared with anything.

    Args:
        values: (B,), finite.
        labels: one or more (B, T), -100 where there is no label.

    Returns:
        Scalar; 0 when there is no such row.
    """
    answered = torch.stack([(one != IGNORE).any(dim=-1) for one in labels]).all(dim=0)
    return mean_or_zero(values[answered])
