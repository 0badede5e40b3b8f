"""Aggregates over rows (arXiv 2410.08109, section 3; forget quality: arXiv 2401.06121).

Every function but :func:`forget_quality` works along the last axis: (N,) gives one number,
(resamples, N) gives one for each bootstrap resample.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FORGET_EFFICACY_TERMS = (
    "rouge",
    "probability",
    "truth_ratio",
    "cosine_similarity",
    "entailment",
)
MODEL_UTILITY_TERMS = (*FORGET_EFFICACY_TERMS, "token_entropy")
TOFU_UTILITY_TERMS = ("rouge", "probability", "truth_ratio")
TOFU_UTILITY_SPLITS = ("retain", "real_authors", "world_facts")


def forget_truth_ratio(r: ArrayLike) -> float:
    """Compute the truth ratio TR of a forget set, ``1 - mean min(r, 1 / r)``.

    0 if the model finds true and wrong answers equally likely (forgotten), near 1 if r is far from
    1 on either side: a model that avoids the truth still knows it. TOFU reports 1 minus this.

    Args:
        r: (..., N), from :func:`~closer_look.metrics.likelihood.truth_ratio`.

    Returns:
        Between 0 and 1; an array (...) when ``r`` has leading axes.
    """
    r = np.asarray(r, dtype=float)
    return 1 - np.minimum(r, _inverse(r)).mean(axis=-1)


def retain_truth_ratio(r: ArrayLike) -> float:
    """Compute the truth ratio TR of a set to retain, ``mean max(0, 1 - 1 / r)``.

    Args:
        r: (..., N), from :func:`~closer_look.metrics.likelihood.truth_ratio`.

    Returns:
        Between 0 and 1 (the truth is always far likelier); an array (...) when ``r`` has leading
        axes.
    """
    return np.maximum(0, 1 - _inverse(np.asarray(r, dtype=float))).mean(axis=-1)


def model_utility(values: ArrayLike) -> float:
    """Compute Model Utility MU, a harmonic mean: one zero makes it zero.

    Args:
        values: (..., M), between 0 and 1: each of ``MODEL_UTILITY_TERMS`` on each set to retain
            (TOFU: 3 sets, 18 values; real-world: 1 set, 6 values). TOFU's own utility takes
            ``TOFU_UTILITY_TERMS`` on ``TOFU_UTILITY_SPLITS`` only (9 values).

    Returns:
        Between 0 and 1; an array (...) when ``values`` has leading axes.

    Raises:
        ValueError: there is no value, or one that is not between 0 and 1.
    """
    values = _checked(values, "model_utility")
    return values.shape[-1] / _inverse(values).sum(axis=-1)


def forget_efficacy(values: ArrayLike) -> float:
    """Compute Forget Efficacy FE, one minus the mean.

    Args:
        values: (..., M), between 0 and 1: each of ``FORGET_EFFICACY_TERMS`` on a forget set.

    Returns:
        Between 0 and 1; an array (...) when ``values`` has leading axes.

    Raises:
        ValueError: there is no value, or one that is not between 0 and 1.
    """
    return 1 - _checked(values, "forget_efficacy").mean(axis=-1)


def forget_quality(r: ArrayLike, r_retain: ArrayLike) -> float:
    """Compute Forget Quality: does the model treat forget rows like one that never saw them?

    It is the p-value of a two-sample Kolmogorov-Smirnov test (arXiv 2401.06121, section 2.2). Above
    0.05, the test cannot tell the two models apart.

    Args:
        r: (N,), truth ratios of the forget rows under the unlearned model; NaN are ignored.
        r_retain: (M,), the same under a model that was never trained on the forget set.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: one of the two has no truth ratio.
    """
    from scipy.stats import ks_2samp  # takes a second to import

    samples = [np.asarray(sample, dtype=float) for sample in (r, r_retain)]
    samples = [sample[~np.isnan(sample)] for sample in samples]
    if not all(sample.size for sample in samples):
        raise ValueError("forget_quality needs at least one truth ratio from each of two models")
    return float(ks_2samp(*samples).pvalue)


def _inverse(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", over="ignore"):  # infinity is the right answer there
        return 1 / values


def _checked(values: ArrayLike, name: str) -> NDArray[np.float64]:
    values = np.asarray(values, dtype=float)
    if values.size == 0:
        raise ValueError(f"{name} needs at least one value, got none")
    outside = values[~((values >= 0) & (values <= 1))]
    if outside.size:
        raise ValueError(f"{name} takes values between 0 and 1, got {outside[0]}")
    return values
