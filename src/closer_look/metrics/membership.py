"""Membership inference: do a model's likelihoods tell which rows it was trained on?

A score of a row is **higher for less likely text**, as published. ``nll`` is the negative
log-likelihood of an answer **summed** over its tokens, in nats.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from closer_look.metrics.intervals import percentile_interval
from closer_look.metrics.likelihood import per_token

SMALLEST_VARIANCE = 1e-6  # of the published code: where a model is sure, the variance vanishes


def loss_score(nll: ArrayLike, n_tokens: ArrayLike) -> NDArray[np.float64]:
    """Compute each row's loss, ``nll / n`` (perplexity of arXiv 2012.07805, in logarithms).

    Args:
        nll: (N,), summed.
        n_tokens: (N,), number of tokens in each sum.

    Returns:
        (N,) nats per token.
    """
    return per_token(nll, n_tokens)


def zlib_score(nll: ArrayLike, n_tokens: ArrayLike, texts: Iterable[str]) -> NDArray[np.float64]:
    """Compute each row's loss per byte of its compressed text (zlib of arXiv 2012.07805).

    It corrects for text that any model finds likely because it repeats itself.

    Args:
        nll: (N,), summed.
        n_tokens: (N,).
        texts: N texts, those of which ``nll`` is.

    Returns:
        (N,) nats per token and byte.

    Raises:
        ValueError: the numbers of texts and rows differ.
    """
    pairs = zip(per_token(nll, n_tokens), texts, strict=True)
    return np.array([loss / len(zlib.compress(text.encode())) for loss, text in pairs], dtype=float)


def reference_score(
    nll: ArrayLike, n_tokens: ArrayLike, reference_nll: ArrayLike
) -> NDArray[np.float64]:
    """Compute each row's loss minus its loss under a reference model (arXiv 2012.07805).

    It corrects for text that any model finds likely. The two models share a tokenizer.

    Args:
        nll: (N,), summed.
        n_tokens: (N,).
        reference_nll: (N,), summed, of a model that was not trained on the rows.

    Returns:
        (N,) nats per token.
    """
    return per_token(nll, n_tokens) - per_token(reference_nll, n_tokens)


def min_k(token_log_probabilities: ArrayLike, k: float) -> float:
    """Compute the mean loss of a row's least likely tokens (Min-K% Prob, arXiv 2310.16789).

    Args:
        token_log_probabilities: (n_tokens,) nats.
        k: share of the tokens that count, rounded down; one at least.

    Returns:
        Nats per token; NaN for a row without tokens or with a NaN among them.

    Raises:
        ValueError: k is not a share above 0.
    """
    return _minus_mean_of_lowest(np.asarray(token_log_probabilities, dtype=float), k)


def min_k_plus_plus(
    token_log_probabilities: ArrayLike, means: ArrayLike, variances: ArrayLike, k: float
) -> float:
    """Compute ``min_k`` of log-probabilities in standard deviations (arXiv 2404.02936).

    Each is compared with those of all tokens that the model could have given at that position:
    ``(log p - mean) / sqrt(variance)``, with a variance of at least ``SMALLEST_VARIANCE``.

    Args:
        token_log_probabilities: (n_tokens,) nats.
        means: (n_tokens,), of log p under p itself, ``sum_v p_v log p_v``.
        variances: (n_tokens,), the same of its square, minus the mean's square.
        k: share of the tokens that count, rounded down; one at least.

    Returns:
        Standard deviations; NaN for a row without tokens or with a NaN among them.

    Raises:
        ValueError: k is not a share above 0.
    """
    deviations = np.sqrt(np.maximum(variances, SMALLEST_VARIANCE))
    values = np.asarray(token_log_probabilities, dtype=float) - np.asarray(means, dtype=float)
    return _minus_mean_of_lowest(values / deviations, k)


def membership_auc(forget: ArrayLike, holdout: ArrayLike) -> float:
    """Compute how well a score tells forget rows from rows that were never trained on.

    It is the probability that a forget row is likelier than a holdout row (its score lower), where
    ties count half: the area under the curve of true against false positives.

    Args:
        forget: (N,), any of the scores of this module, of forget rows; NaN are ignored.
        holdout: (M,), the same of holdout rows.

    Returns:
        1 if every forget row is likelier (all are told), 0.5 if the score tells nothing, 0 if every
        forget row is less likely (unlearned so much that this tells them).

    Raises:
        ValueError: one of the two sets has no score.
    """
    return _auc(*_scored(forget, holdout))


def membership_auc_interval(
    forget: ArrayLike, holdout: ArrayLike, n_resamples: int = 1000, seed: int = 1001
) -> tuple[float, float]:
    """Compute the 95 % bootstrap interval of ``membership_auc``, over rows within each set.

    It has no width where the two sets' scores do not overlap: no resample shows what a further row
    might.

    Args:
        forget: (N,), as in ``membership_auc``.
        holdout: (M,), the same.
        n_resamples: number of bootstrap resamples.
        seed: seed of the resampling; the same seed gives the same interval.

    Returns:
        Its ends, between 0 and 1.

    Raises:
        ValueError: one of the two sets has no score.
    """
    forget, holdout = _scored(forget, holdout)
    likelier = (forget[:, None] < holdout) + 0.5 * (forget[:, None] == holdout)  # (N, M)
    rng = np.random.default_rng(seed)
    n_forget, n_holdout = (_times_drawn(rng, size, n_resamples) for size in likelier.shape)
    return percentile_interval(((n_forget @ likelier) * n_holdout).sum(-1) / likelier.size)


def privleak(auc: float, retain_auc: float) -> float:
    """Compute PrivLeak: how far an AUC is from that of a model that never saw the forget rows.

    ``100 ((1 - auc) - (1 - retain_auc)) / (1 - retain_auc)`` (arXiv 2407.06460, whose own AUC is 1
    minus this one, of ``min_k`` with k = 0.4).

    Args:
        auc: from :func:`membership_auc`, of the unlearned model.
        retain_auc: the same of the retain-only model.

    Returns:
        Per cent: 0 as if never learned, negative where too little was unlearned (at least -100),
        positive where so much that it shows.

    Raises:
        ValueError: an AUC is not between 0 and 1, or that of the retain-only model is 1.
    """
    if not (0 <= auc <= 1 and 0 <= retain_auc < 1):
        raise ValueError(
            f"privleak takes AUCs between 0 and 1, that of the retain-only model below 1, "
            f"got {auc} and {retain_auc}"
        )
    return 100 * (retain_auc - auc) / (1 - retain_auc)


def _minus_mean_of_lowest(values: NDArray[np.float64], k: float) -> float:
    if not 0 < k <= 1:
        raise ValueError(f"k is the share of the tokens that count, above 0 up to 1, got {k}")
    if values.size == 0 or np.isnan(values).any():  # sorting would put NaN out of sight
        return np.nan
    n_lowest = max(1, int(k * values.size))
    return float(-np.sort(values)[:n_lowest].mean())


def _times_drawn(rng: np.random.Generator, size: int, n_resamples: int) -> NDArray[np.float64]:
    """Count how often each resample draws each of ``size`` rows, (n_resamples, size)."""
    drawn = rng.integers(size, size=(n_resamples, size))
    places = drawn + size * np.arange(n_resamples)[:, None]
    counts = np.bincount(places.ravel(), minlength=n_resamples * size)
    return counts.reshape(n_resamples, size).astype(float)


def _scored(forget: ArrayLike, holdout: ArrayLike) -> list[NDArray[np.float64]]:
    sets = [np.asarray(scores, dtype=float) for scores in (forget, holdout)]
    sets = [scores[~np.isnan(scores)] for scores in sets]
    if not all(scores.size for scores in sets):
        raise ValueError("membership_auc needs at least one score from each of two sets of rows")
    return sets


def _auc(forget: NDArray[np.float64], holdout: NDArray[np.float64]) -> float:
    forget = np.sort(forget)
    n_below, n_up_to = (np.searchsorted(forget, holdout, side) for side in ("left", "right"))
    return float((n_below + n_up_to).sum() / (2 * forget.size * holdout.size))
