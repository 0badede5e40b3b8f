"""Unlearning losses: pure functions on aligned logits and labels.

Aligned means already shifted: ``logits[b, t]`` predicts ``labels[b, t]``. Positions whose label is
-100 (question, padding) are ignored, and logits may omit them: (n, V) are the logits of the n
labels, row after row. The same holds of hidden states, (B, T, D) or (n, D). Losses compute in
float32 for half-precision logits and in float64 for float64. A batch without a label has loss 0 and
a zero gradient.

A loss is a function and a line in ``FORGET`` or ``RETAIN``. The names of its parameters say what it
needs: training passes those in ``TENSORS``, and every other one (``beta``, ``direction``) is a
hyperparameter. Two names stand for a loss on either side: ``rmu``, which has a function in each
module, and ``gradient_descent``, which task vectors have on the forget side.
"""

from closer_look.losses.distributions import positions_of_ce_u
from closer_look.losses.forget import (
    altpo,
    ce_u,
    dpo,
    flat,
    flat_logits,
    gradient_ascent,
    idk,
    llmu,
    maximum_entropy,
    npo,
    satimp,
    simnpo,
    undial,
    wga,
)
from closer_look.losses.forget import rmu as forget_rmu
from closer_look.losses.loss import TENSORS, Loss, every_position, find_loss, table
from closer_look.losses.nll import mean_over_positions, sequence_nll
from closer_look.losses.retain import answer_preservation, gradient_descent, kl
from closer_look.losses.retain import rmu as retain_rmu

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
    Loss(
        idk,
        "IDK",
        "answer with a refusal (“I don't know that”)",
        counts=every_position,
    ),
    Loss(
        llmu,
        "LLMU",
        "make the true answer less likely and another question's answer likelier",
        counts=every_position,
    ),
    Loss(
        simnpo,
        "SimNPO",
        "make each word of the true answer less likely, more gently the more the answer is gone",
    ),
    Loss(
        wga,
        "WGA",
        "make the true answer less likely, and each word the more the likelier it still is",
        mean_over_positions=True,
    ),
    Loss(
        satimp,
        "SatImp",
        "make the true answer less likely at words that are neither gone nor certain",
        mean_over_positions=True,
    ),
    Loss(
        ce_u,
        "CE-U",
        "share the true next word's probability out among all other words",
        stands_alone=True,
        counts=positions_of_ce_u,
    ),
    Loss(
        undial,
        "UNDIAL",
        "predict as the model before unlearning would if the true next word were less likely",
        mean_over_positions=True,
    ),
    Loss(
        flat_logits,
        "PDU",
        "let no next word stand out from the others",
        mean_over_positions=True,
    ),
    Loss(
        gradient_descent,
        "TV",
        "learn the true answer; what this adds to the weights is then subtracted",
        mean_over_positions=True,
    ),
    Loss(forget_rmu, "RMU", "replace what the model has in mind there by a fixed random direction"),
    Loss(altpo, "AltPO", "prefer another plausible answer to the true one"),
    Loss(
        flat,
        "FLAT",
        "tell a refusal (“I don't know that”) from the true answer",
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
    Loss(retain_rmu, "RMU", "keep what the model has in mind as it was before unlearning"),
)

__all__ = [
    "FORGET",
    "RETAIN",
    "TENSORS",
    "Loss",
    "altpo",
    "answer_preservation",
    "ce_u",
    "dpo",
    "find_loss",
    "flat",
    "flat_logits",
    "gradient_ascent",
    "gradient_descent",
    "idk",
    "kl",
    "llmu",
    "maximum_entropy",
    "mean_over_positions",
    "npo",
    "satimp",
    "sequence_nll",
    "simnpo",
    "undial",
    "wga",
]
