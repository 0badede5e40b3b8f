"""95 % intervals: of a bootstrapped number, and of a proportion."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike


def percentile_interval(resampled: ArrayLike) -> tuple[float, float]:
    """Compute the 95 % percentile interval of a bootstrap.

    Args:
        resampled: (n_resamples,), a number's values on resamples of the rows.

    Returns:
        Its 2.5th and its 97.5th percentile.
    """
    low, high = np.percentile(resampled, [2.5, 97.5])
    return float(low), float(high)


def proportion_interval(
    n_successes: int, n_rows: int, sides: tuple[float, float] = (0.025, 0.975)
) -> tuple[float, float]:
    """Compute the exact interval of a proportion (Clopper and Pearson, Biometrika 26, 1934).

    It covers the true proportion at least as often as it says, however few the rows, and has a
    width where none or all of them succeed; a bootstrap has none there.

    Args:
        n_successes: number of rows that succeed.
        n_rows: number of rows, independent of each other.
        sides: quantiles at which it ends; by default it is of 95 %.

    Returns:
        Its ends, between 0 and 1.

    Raises:
        ValueError: there is no row, or there are more successes than rows.
    """
    from scipy.special import betaincinv  # takes a moment to import

    if not (n_rows > 0 and 0 <= n_successes <= n_rows):
        raise ValueError(f"{n_successes} of {n_rows} rows is no proportion")
    n_failures = n_rows - n_successes
    low = betaincinv(n_successes, n_failures + 1, sides[0]) if n_successes else 0
    high = betaincinv(n_successes + 1, n_failures, sides[1]) if n_failures else 1
    return float(low), float(high)
