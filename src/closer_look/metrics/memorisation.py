"""How much of a text a model has by heart: of one answer, or of one question's sampled answers.

In the published code, the token that ends an answer is not among the tokens that count; whoever
calls these functions chooses.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import ArrayLike


def without_end(of_tokens: ArrayLike | None) -> ArrayLike:
    """Leave out the last of a row's values, that of the token which ends the answer.

    Args:
        of_tokens: (n_tokens,); a missing value (None, NaN) where stored scores have no such list.

    Returns:
        (n_tokens - 1,), or nothing.
    """
    return of_tokens[:-1] if np.ndim(of_tokens) else []


def exact_memorisation(hits: ArrayLike) -> float:
    """Compute the share of a text's tokens that are the model's first choice.

    Each token is predicted from the true ones before it (arXiv 2205.10770; as a metric of
    unlearning: arXiv 2506.12618).

    Args:
        hits: (n_tokens,) booleans: is the true token the first choice there?

    Returns:
        Between 0 and 1; NaN for a text without tokens.
    """
    hits = np.asarray(hits, dtype=bool)
    return float(hits.mean()) if hits.size else np.nan


def extraction_strength(hits: ArrayLike) -> float:
    """Compute the share of a text that the model completes by itself, given the rest before it.

    It is ``1 - m / n_tokens``, where m is the smallest number of first tokens after which every
    token is the model's first choice: prompted with them, greedy decoding gives the text's end word
    for word (extractable text: arXiv 2202.07646; as a metric of unlearning: arXiv 2506.12618).
    Where the last token is no first choice, the model completes nothing and this is 0; the
    published code gives ``1 / n_tokens`` there.

    Args:
        hits: (n_tokens,) booleans: is the true token the first choice there?

    Returns:
        Between 0 and 1; NaN for a text without tokens.
    """
    hits = np.asarray(hits, dtype=bool)
    if not hits.size:
        return np.nan
    misses = np.flatnonzero(~hits)
    n_given = misses[-1] + 1 if misses.size else 0
    return float((hits.size - n_given) / hits.size)


def leak_at_k(hits: ArrayLike, k: int) -> float:
    """Estimate the probability that at least one of k sampled answers gives the fact away.

    leak@k of arXiv 2511.04934 for a yes or no a sample, the same as pass@k of arXiv 2107.03374:
    ``1 - C(n - c, k) / C(n, k)`` from n samples of which c give it away. It is the share of all
    choices of k of the samples that hold a leak, and unbiased.

    Args:
        hits: (n_samples,) booleans: does the sampled answer give the fact away?
        k: number of samples that a user would draw, at most n_samples.

    Returns:
        Between 0 and 1.

    Raises:
        ValueError: k is below 1 or above the number of samples.
    """
    n_samples, n_leaks = np.size(hits), int(np.count_nonzero(hits))
    if not 1 <= k <= n_samples:
        raise ValueError(f"leak_at_k takes k from 1 to the number of samples, {n_samples}, got {k}")
    return 1 - comb(n_samples - n_leaks, k) / comb(n_samples, k)
