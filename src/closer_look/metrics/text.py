"""Metrics of a generated text: its diversity, and its overlap with a reference."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike, NDArray


def token_entropy(token_ids: ArrayLike) -> float:
    """Compute the unigram entropy of a text's tokens, divided by its largest possible value.

    TE of arXiv 2410.08109, section 3: ``-sum_v f_v log2 f_v / log2 n``, where f_v is the share of
    token v among the n tokens. Repetition gives low values.

    Args:
        token_ids: (n,) integers.

    Returns:
        Between 0 (one repeated token, or at most one token) and 1 (no token twice).
    """
    n_tokens = np.size(token_ids)
    if n_tokens <= 1:
        return 0.0
    counts = np.unique(token_ids, return_counts=True)[1]
    # With f = count / n the formula is 1 - sum(count log count) / (n log n): exact at both ends.
    return float(1 - counts @ np.log2(counts) / (n_tokens * np.log2(n_tokens)))


def rouge_l_recall(generated: Iterable[str], references: Iterable[str]) -> NDArray[np.float64]:
    """Compute ROUGE-L recall: the share of a reference's words in the generated text, in order.

    R of arXiv 2410.08109, section 3, with the Porter stemmer (package rouge-score).

    Args:
        generated: N texts.
        references: N texts, the gold answers.

    Returns:
        (N,), between 0 and 1.

    Raises:
        ValueError: the numbers of texts differ.
    """
    from rouge_score.rouge_scorer import RougeScorer  # takes a second to import

    scorer = RougeScorer(["rougeL"], use_stemmer=True)
    return np.array(
        [
            scorer.score(target=reference, prediction=text)["rougeL"].recall
            for text, reference in zip(generated, references, strict=True)
        ],
        dtype=float,
    )
