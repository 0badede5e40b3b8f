"""Losses that preserve what a model should not forget: of arXiv 2410.08109, section 3, and RMU's.

Shapes: ``logits`` (B, T, V) predict ``labels`` (B, T), -100 = no label; ``idk_logits`` and
``idk_labels`` (B, T', V) and (B, T') are the same questions answered with a refusal. Every loss
returns a scalar, in nats but for :func:`rmu`.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from closer_look.losses.activations import squared_distance
from closer_look.losses.nll import (
    Positive,
    answer_logits,
    in_full_precision,
    mean_nll,
    mean_over_answered_rows,
    mean_over_positions,
    sequence_nll,
)


def gradient_descent(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute GD, gradient descent: the mean nll over all answer tokens of the batch."""
    return mean_nll(logits, labels)


def kl(logits: Tensor, reference_logits: Tensor, labels: Tensor | None = None) -> Tensor:
    """Compute KL, the divergence ``KL(p_ref || p)`` of the model from the frozen reference.

    Args:
        logits: (B, T, V).
        reference_logits: (B, T, V); they get no gradient.
        labels: (B, T), to average over the positions that have a label; if None, the average is
            over every position, question and padding included, as published.

    Returns:
        Scalar, in nats.
    """
    if labels is None:
        z, z_ref = (in_full_precision(one).flatten(0, -2) for one in (logits, reference_logits))
    else:
        z, z_ref = (answer_logits(one, labels) for one in (logits, reference_logits))
    return mean_over_positions(divergence, z, z_ref)


def divergence(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Compute ``KL(p_ref || p)`` at each position: (N, V), (N, V) -> (N,), in nats."""
    p_ref = reference_logits.softmax(dim=-1)
    entropy = cross_entropy(reference_logits, p_ref, reduction="none")
    return cross_entropy(logits, p_ref, reduction="none") - entropy


def answer_preservation(
    logits: Tensor, labels: Tensor, idk_logits: Tensor, idk_labels: Tensor, beta: Positive = 0.1
) -> Tensor:
    """Compute AP, answer preservation: keep the answer more likely than a refusal.

    ``-(1 / beta) mean log sigma(beta (nll(y_idk) - nll(y)))`` over rows. The gradient of a row has
    the weight ``1 / (1 + (p(y) / p(y_idk)) ** beta)``, which fades as the answer becomes likelier.
    """
    margin = sequence_nll(idk_logits, idk_labels) - sequence_nll(logits, labels)
    return mean_over_answered_rows(-1 / beta * logsigmoid(beta * margin), labels, idk_labels)


def rmu(activations: Tensor, reference_activations: Tensor, labels: Tensor) -> Tensor:
    """Compute RMU's retain term: keep the hidden states of the reference (arXiv 2403.03218).

    ``mean (a - a_ref) ** 2`` over the hidden size, over a row's own positions, then over rows.

    Args:
        activations: behind one layer, (B, T, D) or (n, D).
        reference_activations: of the frozen reference, likewise; they get no gradient.
        labels: (B, T), -100 = no label.
    """
    return squared_distance(activations, answer_logits(reference_activations, labels), labels)
