"""Unlearning losses: pure functions on aligned logits and labels.

Aligned means already shifted: ``logits[b, t]`` predicts ``labels[b, t]``. Positions whose label is
-100 (question, padding) count for nothing, and logits may come without them: (n, V) are those of
the n labels, row after row. Half-precision logits are computed in float32, float64 stays float64. A
loss over nothing (no label in the batch) is 0 and has a zero gradient.

A training loop reads from a loss's parameter names what it needs: those in ``TENSORS`` it provides;
every other parameter (``beta``, ``direction``) is a hyperparameter.
"""

from closer_look.losses.forget import (
    dpo,
    gradient_ascent,
    idk,
    llmu,
    maximum_entropy,
    npo,
)
from closer_look.losses.nll import mean_over_positions, sequence_nll
from closer_look.losses.retain import answer_preservation, gradient_descent, kl

FORGET = {
    "gradient_ascent": gradient_ascent,
    "npo": npo,
    "maximum_entropy": maximum_entropy,
    "dpo": dpo,
    "idk": idk,
    "llmu": llmu,
}
RETAIN = {
    "gradient_descent": gradient_descent,
    "kl": kl,
    "answer_preservation": answer_preservation,
}

MEANS_OVER_POSITIONS = ("gradient_ascent", "maximum_entropy", "gradient_descent", "kl")
"""Losses that a method may average over a padded length instead."""

TENSORS = (
    "logits",
    "labels",
    "idk_logits",
    "idk_labels",
    "mismatch_logits",
    "mismatch_labels",
    "reference_nll",
    "reference_idk_nll",
    "reference_logits",
)

__all__ = [
    "FORGET",
    "MEANS_OVER_POSITIONS",
    "RETAIN",
    "TENSORS",
    "answer_preservation",
    "dpo",
    "gradient_ascent",
    "gradient_descent",
    "idk",
    "kl",
    "llmu",
    "maximum_entropy",
    "mean_over_positions",
    "npo",
    "sequence_nll",
]
