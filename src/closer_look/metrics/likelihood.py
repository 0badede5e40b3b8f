"""Metrics from a model's probabilities of given answers (arXiv 2401.06121, section 2.2).

``nll`` is the negative log-likelihood of an answer **summed** over its tokens, in nats. Wrong
answers come as (N, W) arrays, padded with NaN where a row has fewer than W; a row without any gets
NaN as its value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def per_token(nll: ArrayLike, n_tokens: ArrayLike) -> NDArray[np.float64]:
    """Compute ``nll / n``, elementwise, in nats; NaN where there is no token."""
    n_tokens = np.asarray(n_tokens, dtype=float)
    return np.asarray(nll, dtype=float) / np.where(n_tokens == 0, np.nan, n_tokens)


def probability(nll: ArrayLike, n_tokens: ArrayLike) -> NDArray[np.float64]:
    """Compute the geometric mean of each answer's token probabilities, ``exp(-nll / n)``.

    P of arXiv 2410.08109, section 3.

    Args:
        nll: (N,), summed.
        n_tokens: (N,), number of tokens in each sum.

    Returns:
        (N,), between 0 and 1.
    """
    return np.exp(-per_token(nll, n_tokens))


def probability_among(
    nll: ArrayLike, n_tokens: ArrayLike, wrong_nll: ArrayLike, wrong_n_tokens: ArrayLike
) -> NDArray[np.float64]:
    """Compute the probability of each answer among itself and the wrong options.

    ``p / (p + sum of the wrong options' p)`` with ``p = exp(-nll / n)``. It is computed from
    logarithms, so it is a number even if every p underflows (a model that has collapsed).

    Args:
        nll: (N,), summed.
        n_tokens: (N,).
        wrong_nll: (N, W), summed, NaN = no such option.
        wrong_n_tokens: (N, W).

    Returns:
        (N,), between 0 and 1; NaN where there is no wrong option.
    """
    log_p = -per_token(nll, n_tokens)
    log_p_wrong = -per_token(wrong_nll, wrong_n_tokens)
    is_option = ~np.isnan(log_p_wrong)
    log_p_wrong_sum = np.logaddexp.reduce(np.where(is_option, log_p_wrong, -np.inf), axis=1)
    among = np.exp(log_p - np.logaddexp(log_p, log_p_wrong_sum))
    return np.where(is_option.any(axis=1), among, np.nan)


def truth_ratio(
    paraphrased_nll: ArrayLike,
    paraphrased_n_tokens: ArrayLike,
    wrong_nll: ArrayLike,
    wrong_n_tokens: ArrayLike,
) -> NDArray[np.float64]:
    """Compute the ratio r of the paraphrased true answer's probability to the wrong answers'.

    ``r = exp(mean over wrong answers of nll / n - nll / n of the paraphrased answer)``, from which
    TR of arXiv 2410.08109, section 3, is aggregated. (TOFU's own truth ratio is ``1 / r``.)

    Args:
        paraphrased_nll: (N,), summed.
        paraphrased_n_tokens: (N,).
        wrong_nll: (N, W), summed, NaN = no such answer.
        wrong_n_tokens: (N, W).

    Returns:
        (N,), from 0 to infinity, above 1 where the true answer is likelier; NaN where there is no
        wrong answer.
    """
    wrong = per_token(wrong_nll, wrong_n_tokens)
    n_wrong = (~np.isnan(wrong)).sum(axis=1)
    mean_wrong = np.nansum(wrong, axis=1) / np.where(n_wrong == 0, np.nan, n_wrong)
    with np.errstate(over="ignore"):  # infinity is the right answer there
        return np.exp(mean_wrong - per_token(paraphrased_nll, paraphrased_n_tokens))
