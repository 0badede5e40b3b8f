"""The loss of hidden states behind one layer, which RMU takes on both sides (arXiv 2403.03218)."""

from __future__ import annotations

from torch import Tensor

from closer_look.losses.nll import (
    answer_logits,
    in_full_precision,
    mean_of_rows,
    mean_over_answered_rows,
)


def squared_distance(activations: Tensor, target: Tensor, labels: Tensor) -> Tensor:
    """Average ``(a - target) ** 2`` over the hidden size, a row's own positions, then the rows.

    Args:
        activations: (B, T, D), or those of the positions with a label, (n, D).
        target: (n, D) or (D,); it gets no gradient.
        labels: (B, T), -100 = no label: these positions do not count.

    Returns:
        Scalar.
    """
    states = answer_logits(activations, labels)  # (n, D): it selects positions, of whatever size
    distances = (states - in_full_precision(target.detach())).square().mean(dim=-1)  # (n,)
    return mean_over_answered_rows(mean_of_rows(distances, labels), labels)
