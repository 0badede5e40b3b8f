"""Losses that forget through the whole next-token distribution, at each position of the answer.

Shapes as in :mod:`closer_look.losses.forget`: ``logits`` (B, T, V) or (n, V) predict ``labels``
(B, T), -100 = no label. All are means over positions, computed a piece of them at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from closer_look.losses.nll import (
    IGNORE,
    Count,
    NonNegative,
    answer_logits,
    mean_over_positions,
)


def ce_u(logits: Tensor, labels: Tensor, ignore_first: Count = 1) -> Tensor:
    """Compute CE-U: cross-entropy towards the model's own distribution without the true token.

    ``- sum_v q_v log p_v`` with ``q = softmax(z)``, the true token's z at minus infinity; q is a
    constant (arXiv 2503.01224). The gradient in z is ``p - q``: it fades with p of the true token.
    Mean over the positions that count.

    Args:
        logits: (B, T, V) or (n, V).
        labels: (B, T).
        ignore_first: answer tokens of each row, from the first, that do not count: an answer should
            still begin as answers do.
    """

    def of_positions(z: Tensor, true: Tensor, weight: Tensor) -> Tensor:
        others = z.detach().scatter(-1, true.unsqueeze(-1), -torch.inf)
        return weight * cross_entropy(z, others.softmax(dim=-1), reduction="none")

    z, answered = answer_logits(logits, labels), labels != IGNORE
    counts = (answered.cumsum(dim=-1) > ignore_first)[answered].to(z.dtype)  # (n,), 1 or 0
    # Weights of mean 1 over those that count: nothing of size (n, V) is copied to leave some out.
    weights = counts * len(counts) / counts.sum().clamp(min=1)
    return mean_over_positions(of_positions, z, labels[answered], weights)


def positions_of_ce_u(n_labels: int, ignore_first: Count = 1) -> int:
    """Count the positions of a row over which :func:`ce_u` averages."""
    return max(n_labels - ignore_first, 0)


def undial(
    logits: Tensor, labels: Tensor, reference_logits: Tensor, beta: NonNegative = 10.0
) -> Tensor:
    """Compute UNDIAL: learn from the reference with its true tokens made less likely.

    Cross-entropy towards ``softmax(z_ref - beta one_hot(label))`` (arXiv 2402.10052), mean over
    the positions that have a label.

    Args:
        logits: (B, T, V) or (n, V).
        labels: (B, T).
        reference_logits: of the frozen reference, (B, T, V) or (n, V); they get no gradient.
        beta: taken off the reference's logit of the true token.
    """

    def of_positions(z: Tensor, z_ref: Tensor, true: Tensor) -> Tensor:
        at_true = true.unsqueeze(-1)
        lowered = z_ref.scatter(-1, at_true, z_ref.gather(-1, at_true) - beta)
        return cross_entropy(z, lowered.softmax(dim=-1), reduction="none")

    z, z_ref = (answer_logits(one, labels) for one in (logits, reference_logits))
    return mean_over_positions(of_positions, z, z_ref, labels[labels != IGNORE])


def flat_logits(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute PDU's forget term: ``(max(z) - mean(z)) ** 2`` of the logits z (arXiv 2506.05314).

    Mean over the positions that have a label. Its minimum, 0, is at equal logits, as that of
    maximum entropy; it does not fade on a confident model, and it has no bound above.
    """

    def of_positions(z: Tensor) -> Tensor:
        return (z.amax(dim=-1) - z.mean(dim=-1)).square()

    return mean_over_positions(of_positions, answer_logits(logits, labels))
