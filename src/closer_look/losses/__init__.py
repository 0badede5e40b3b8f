"""Unlearning losses: pure functions on aligned logits and labels.

Aligned means already shifted: ``logits[b, t]`` predicts ``labels[b, t]``. Positions whose label is
-100 (question, padding) are ignored, and logits may omit them: (n, V) are the logits of the n
labels, row after row. Losses compute in float32 for half-precision logits and in float64 for
float64. A batch without a label has loss 0 and a zero gradient.

A loss is a function and a line in ``FORGET`` or ``RETAIN``. The names of its parameters say what it
needs: training passes those in ``TENSORS``, and every other one (``beta``, ``direction``) is a
hyperparameter.
"""

from closer_look.losses.forget import (
    dpo,
    gradient_ascent,
    idk,
    llmu,
    maximum_entropy,
    npo,
)
from closer_look.losses.loss import TENSORS, Loss, find_loss, table
from closer_look.losses.nll import mean_over_positions, sequence_nll
from closer_look.losses.retain import answer_preservation, gradient_descent, kl

FORGET = table(
    Loss(
        gradient_ascent,
        "GA",
        "make the true answer less likely, without bound",
        mean_over_positions=True,
    ),
    Loss(npo, "NPO", "make the true answer less likely, more gently the more it is gone"),
    Loss(
        maximum_entropy,
        "ME",
        "make every next word equally likely, as if the answer had never been seen",
        mean_over_positions=True,
    ),
    Loss(dpo, "DPO", "prefer a refusal (“I don't know that”) to the true answer"),
    Loss(idk, "IDK", "answer with a refusal (“I don't know that”)"),
    Loss(
        llmu,
        "LLMU",
        "make the true answer less likely and another question's answer likelier",
    ),
)

RETAIN = table(
    Loss(gradient_descent, "GD", "go on learning the true answer", mean_over_positions=True),
    Loss(
        kl,
        "KL",
        "keep every prediction close to the model's before unlearning",
        mean_over_positions=True,
    ),
    Loss(answer_preservation, "AP", "keep the true answer more likely than a refusal"),
)

__all__ = [
    "FORGET",
    "RETAIN",
    "TENSORS",
    "Loss",
    "answer_preservation",
    "dpo",
    "find_loss",
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
