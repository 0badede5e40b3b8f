"""Negative log-likelihoods (nats), and the means over tokens and rows that losses use."""

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
Count = Annotated[int, Ge(0)]
"""Bounds of hyperparameters, against which values from YAML are checked."""

# Positions computed at a time: few enough for the CPU cache, enough for a fast matrix product.
PIECE = 64


def in_full_precision(logits: Tensor) -> Tensor:
    """Convert float16 and bfloat16 logits to float32; float32 and float64 stay as they are."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def answer_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Select the logits of positions that have a label.

    Selecting before computing saves (positions, V) tensors for question and padding, often most of
    the batch, and keeps gradients away from these positions, whatever their logits are.

    Args:
        logits: (B, T, V), or already selected, (positions with a label, V), which are not copied.
        labels: (B, T), -100 where there is no label.

    Returns:
        (positions with a label, V), in full precision.
    """
    return in_full_precision(logits if logits.dim() == 2 else logits[labels != IGNORE])


def token_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the nll of each answer token, (number of answer tokens,)."""
    return cross_entropy(answer_logits(logits, labels), labels[labels != IGNORE], reduction="none")


def sequence_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Sum the nll over the answer tokens of each row.

    This is ``nll(y|x)`` of arXiv 2410.08109: a sum, not a mean.

    Args:
        logits: (B, T, V), where ``logits[b, t]`` predicts ``labels[b, t]``, or (n, V).
        labels: (B, T), -100 where there is no label.

    Returns:
        (B,), in nats; 0 for a row without a label.
    """
    return sum_of_rows(token_nll(logits, labels), labels)


def sum_of_rows(values: Tensor, labels: Tensor) -> Tensor:
    """Sum the values of the positions with a label over each row: (n,), (B, T) -> (B,)."""
    return values.new_zeros(labels.shape).masked_scatter(labels != IGNORE, values).sum(dim=-1)


def mean_of_rows(values: Tensor, labels: Tensor) -> Tensor:
    """Average the values of each row, (n,), (B, T) -> (B,); 0 for a row without a label."""
    return sum_of_rows(values, labels) / (labels != IGNORE).sum(dim=-1).clamp(min=1)


def mean_nll(logits: Tensor, labels: Tensor) -> Tensor:
    """Average the nll over all answer tokens of the batch: cross-entropy, a scalar."""
    return mean_or_zero(token_nll(logits, labels))


def mean_or_zero(values: Tensor) -> Tensor:
    """Average values; of no values, return 0 with a zero gradient (``mean`` would give NaN)."""
    return values.sum() / max(values.numel(), 1)


def mean_over_positions(function: Callable[..., Tensor], logits: Tensor, *others: Tensor) -> Tensor:
    """Average a function over positions with little memory, a piece of the positions at a time.

    The gradient of a piece is computed right after its values. So the logits and their gradient are
    the only complete (positions, V) tensors. At most ``PIECE`` positions are left to autograd.

    Args:
        function: ((n, V), (n, ...), ...) -> (n,), a value for each position, independent of others.
        logits: (positions, V).
        others: (positions, ...), aligned with the logits; they get no gradient.

    Returns:
        Scalar; 0 (with a zero gradient) without positions.
    """
    others = tuple(one.detach() for one in others)
    # This also ends the recursion when the function is such a mean itself (KL in the objective).
    if len(logits) <= PIECE:
        return mean_or_zero(function(logits, *others))
    return _MeanOverPositions.apply(function, logits, *others)


class _MeanOverPositions(Function):
    """The mean of ``mean_over_positions``, with its gradient computed in the forward pass."""

    @staticmethod
    def forward(ctx, function, logits, *others):
        # Views, no copies: each piece is ((PIECE, V), (PIECE, ...), ...), the last one shorter.
        pieces = list(zip(*(one.split(PIECE) for one in (logits, *others)), strict=True))
        n_positions = len(logits)
        if not ctx.needs_input_grad[1]:  # of the logits
            return torch.stack([function(*piece).sum() for piece in pieces]).sum() / n_positions
        gradient, shares = torch.empty_like(logits), []  # (positions, V), filled piece by piece
        for (of_logits, *of_others), of_gradient in zip(pieces, gradient.split(PIECE), strict=True):
            with torch.enable_grad():  # a Function's forward runs without
                piece = of_logits.detach().requires_grad_()  # a graph of this piece alone
                share = function(piece, *of_others).sum() / n_positions
                # The graph and its intermediate (PIECE, V) tensors are freed here.
                of_gradient.copy_(*torch.autograd.grad(share, piece))
            shares.append(share.detach())
        ctx.save_for_backward(gradient)
        return torch.stack(shares).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx, of_mean):
        # Scalar of_mean: the chain rule multiplies the stored gradient by it.
        (gradient,) = ctx.saved_tensors
        if of_mean != 1:  # usually it is 1, and the product would copy (positions, V)
            gradient = gradient * of_mean
        return (None, gradient, *(None for _ in ctx.needs_input_grad[2:]))


def mean_over_answered_rows(values: Tensor, *labels: Tensor) -> Tensor:
    """Average over the rows that have at least one label in each of ``labels``.

    A row whose answer was truncated away has an nll of 0, as if its probability were 1. Comparing
    it with anything would be wrong.

    Args:
        values: (B,), finite.
        labels: one or more (B, T), -100 where there is no label.

    Returns:
        Scalar; 0 if there is no such row.
    """
    answered = torch.stack([(one != IGNORE).any(dim=-1) for one in labels]).all(dim=0)
    return mean_or_zero(values[answered])
