"""Losses that make a model forget: those of arXiv 2410.08109, section 3, and of the field.

Untargeted, the answer may become anything: :func:`gradient_ascent`, :func:`wga`, :func:`satimp`,
:func:`npo`, :func:`simnpo`, :func:`maximum_entropy`, :func:`ce_u`, :func:`undial`,
:func:`flat_logits`, :func:`rmu`. Targeted, it should become a refusal, :func:`dpo`, :func:`idk`,
:func:`flat`, or another answer, :func:`altpo`, :func:`llmu`.

Shapes: ``logits`` (B, T, V) predict ``labels`` (B, T), -100 = no label; ``idk_logits`` and
``idk_labels`` (B, T', V) and (B, T') are the same questions answered with a refusal, and
``alternate_logits`` and ``alternate_labels`` with an alternate answer; ``reference_nll``,
``reference_idk_nll`` and ``reference_alternate_nll`` (B,) are the frozen reference model's summed
nll. Every loss returns a scalar, in nats where it is made of log-probabilities.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, logaddexp
from torch.nn.functional import log_softmax, logsigmoid

from closer_look.losses.activations import squared_distance
from closer_look.losses.distributions import ce_u, flat_logits, undial
from closer_look.losses.f_divergence import flat
from closer_look.losses.nll import (
    NonNegative,
    Positive,
    answer_logits,
    mean_nll,
    mean_of_rows,
    mean_or_zero,
    mean_over_answered_rows,
    mean_over_positions,
    sequence_nll,
    token_nll,
)

__all__ = [
    "altpo",
    "ce_u",
    "dpo",
    "flat",
    "flat_logits",
    "gradient_ascent",
    "idk",
    "llmu",
    "maximum_entropy",
    "npo",
    "rmu",
    "satimp",
    "simnpo",
    "undial",
    "wga",
]


def gradient_ascent(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute GA, gradient ascent: minus the mean nll over all answer tokens of the batch."""
    return -mean_nll(logits, labels)


def wga(logits: Tensor, labels: Tensor, beta: NonNegative = 1.0) -> Tensor:
    """Compute WGA, weighted gradient ascent (arXiv 2502.19301).

    ``-mean p ** beta nll`` over all answer tokens, where the weight, of the token's probability p,
    is a constant: a token that is gone already weighs nothing. ``beta=0`` is gradient ascent.
    """
    nll = token_nll(logits, labels)
    return -mean_or_zero((-beta * nll.detach()).exp() * nll)


def satimp(
    logits: Tensor, labels: Tensor, beta1: NonNegative = 5.0, beta2: NonNegative = 1.0
) -> Tensor:
    """Compute SatImp: gradient ascent weighted by saturation and importance (arXiv 2505.11953).

    ``-mean p ** beta1 (1 - p) ** beta2 nll`` over all answer tokens, where the weight, of the
    token's probability p, is a constant. The first factor spares tokens that are gone already, the
    second those that are certain, which any text of the kind would have.
    """
    nll = token_nll(logits, labels)
    p, rest = (-nll.detach()).exp(), -(-nll.detach()).expm1()
    return -mean_or_zero(p**beta1 * rest**beta2 * nll)


def npo(logits: Tensor, labels: Tensor, reference_nll: Tensor, beta: Positive = 0.1) -> Tensor:
    """Compute NPO, negative preference optimisation (arXiv 2404.05868, equation 3).

    ``-(2 / beta) mean log sigma(beta (nll - nll_ref))`` over rows. It is gradient ascent that slows
    down on a row as its answer becomes less likely than it was to the reference.
    """
    margin = sequence_nll(logits, labels) - reference_nll
    return mean_over_answered_rows(-2 / beta * logsigmoid(beta * margin), labels)


def simnpo(logits: Tensor, labels: Tensor, beta: Positive = 4.5, delta: float = 0.0) -> Tensor:
    """Compute SimNPO: NPO on the nll of a token, without a reference (arXiv 2410.07163).

    ``-(2 / beta) mean log sigma(beta (nll / n - delta))`` over rows, n the tokens of a row's
    answer. ``delta`` is in nats a token: the nll above which a row counts as forgotten.
    """
    margin = mean_of_rows(token_nll(logits, labels), labels) - delta
    return mean_over_answered_rows(-2 / beta * logsigmoid(beta * margin), labels)


def maximum_entropy(
    logits: Tensor,
    labels: Tensor,
    direction: Literal["uniform_to_model", "model_to_uniform"] = "uniform_to_model",
    epsilon: NonNegative = 1e-12,
) -> Tensor:
    """Compute ME, maximum entropy: the divergence of the next-token distribution p from uniform, U.

    Mean over the positions that have a label. Both directions have their minimum, 0, at p = U.

    * ``uniform_to_model``, ``KL(U || p) = logsumexp(z) - mean(z) - log V``: the published code. Its
      gradient in the logits z, ``p - 1 / V``, is strong on a confident model. That code takes
      ``log(p + 1e-12)``, whose gradient vanishes for tokens far below 1e-12; ``epsilon=0`` is
      exact.
    * ``model_to_uniform``, ``KL(p || U) = log V - H(p)``: the paper's text. Its gradient vanishes
      on a confident model; ``epsilon`` has no effect.

    Raises:
        ValueError: ``direction`` is neither of the two.
    """
    log_vocabulary = math.log(logits.shape[-1])

    def uniform_to_model(z: Tensor) -> Tensor:
        log_p = log_softmax(z, dim=-1)
        if epsilon:
            log_p = logaddexp(log_p, log_p.new_tensor(epsilon).log())
        return -log_p.mean(dim=-1) - log_vocabulary

    def model_to_uniform(z: Tensor) -> Tensor:
        log_p = log_softmax(z, dim=-1)
        return log_vocabulary + (log_p.exp() * log_p).sum(dim=-1)

    directions = {"uniform_to_model": uniform_to_model, "model_to_uniform": model_to_uniform}
    if direction not in directions:
        raise ValueError(
            f"direction must be {' or '.join(map(repr, directions))}, not {direction!r}"
        )
    return mean_over_positions(directions[direction], answer_logits(logits, labels))


def dpo(
    logits: Tensor,
    labels: Tensor,
    idk_logits: Tensor,
    idk_labels: Tensor,
    reference_nll: Tensor,
    reference_idk_nll: Tensor,
    beta: Positive = 0.1,
) -> Tensor:
    """Compute DPO, direct preference optimisation of refusal over answer (arXiv 2305.18290).

    ``-(2 / beta) mean log sigma(beta ((nll_ref(y_idk) - nll(y_idk)) - (nll_ref(y) - nll(y))))``
    over rows; the factor 2 / beta is that of the code published with arXiv 2410.08109.
    """
    refusal_gain = reference_idk_nll - sequence_nll(idk_logits, idk_labels)
    answer_gain = reference_nll - sequence_nll(logits, labels)
    per_row = -2 / beta * logsigmoid(beta * (refusal_gain - answer_gain))
    return mean_over_answered_rows(per_row, labels, idk_labels)


def altpo(
    logits: Tensor,
    labels: Tensor,
    alternate_logits: Tensor,
    alternate_labels: Tensor,
    reference_nll: Tensor,
    reference_alternate_nll: Tensor,
    beta: Positive = 0.1,
) -> Tensor:
    """Compute AltPO: DPO of an alternate answer over the true one (arXiv 2409.13474)."""
    alternate = (alternate_logits, alternate_labels)
    return dpo(logits, labels, *alternate, reference_nll, reference_alternate_nll, beta)


def idk(idk_logits: Tensor, idk_labels: Tensor) -> Tensor:
    """Compute IDK: the mean nll over all tokens of the refusals."""
    return mean_nll(idk_logits, idk_labels)


def llmu(
    logits: Tensor, labels: Tensor, mismatch_logits: Tensor, mismatch_labels: Tensor
) -> Tensor:
    """Compute LLMU: gradient ascent, and descent on another row's answer (arXiv 2310.10683).

    ``mismatch_logits`` and ``mismatch_labels`` are the forget questions with another row's answer.
    """
    return mean_nll(mismatch_logits, mismatch_labels) - mean_nll(logits, labels)


def rmu(activations: Tensor, control_vector: Tensor, labels: Tensor) -> Tensor:
    """Compute RMU: send the hidden states behind one layer to a fixed vector (arXiv 2403.03218).

    ``mean (a - c) ** 2`` over the hidden size, over a row's own positions, then over rows.

    Args:
        activations: (B, T, D) or (n, D).
        control_vector: c, (D,) or (1, 1, D); it gets no gradient.
        labels: (B, T).
    """
    return squared_distance(activations, control_vector.flatten(), labels)
