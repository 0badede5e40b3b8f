"""Losses that make a model forget (arXiv 2410.08109, section 3, and the code published with it).

Untargeted, the answer may become anything: :func:`gradient_ascent`, :func:`npo`,
:func:`maximum_entropy`. Targeted, it should become a refusal: :func:`dpo`, :func:`idk`.

Shapes: ``logits`` (B, T, V) predict ``labels`` (B, T), -100 = no label; ``idk_logits`` and
``idk_labels`` (B, T', V) and (B, T') are the same questions answered with a refusal;
``reference_nll`` and ``reference_idk_nll`` (B,) are the frozen reference model's summed nll.
Every loss returns a scalar in nats.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor, logaddexp
from torch.nn.functional import log_softmax, logsigmoid

from closer_look.losses.nll import (
    NonNegative,
    Positive,
    answer_logits,
    mean_nll,
    mean_over_answered_rows,
    mean_over_positions,
    sequence_nll,
)


def gradient_ascent(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute GA, gradient ascent: minus the mean nll over all answer tokens of the batch."""
    return -mean_nll(logits, labels)


def npo(logits: Tensor, labels: Tensor, reference_nll: Tensor, beta: Positive = 0.1) -> Tensor:
    """Compute NPO, negative preference optimisation (arXiv 2404.05868, equation 3).

    ``-(2 / beta) mean log sigma(beta (nll - nll_ref))`` over rows. It is gradient ascent that slows
    down on a row as its answer becomes less likely than it was to the reference.
    """
    margin = sequence_nll(logits, labels) - reference_nll
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
