"""Metrics of a generated text: its diversity, and its overlap with a reference."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from closer_look.metrics.scripts import words

if TYPE_CHECKING:
    from rouge_score.tokenizers import Tokenizer

BEYOND_EUROPEAN_LATIN = "\u0180"  # the first character after Latin Extended-A


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

    R of arXiv 2410.08109, section 3, with the Porter stemmer (package rouge-score). The package's
    own tokenizer, with which the published values were made, knows ASCII letters alone. Where one
    of two texts has letters beyond European Latin, both are split by
    :func:`closer_look.metrics.scripts.words`.

    Args:
        generated: N texts.
        references: N texts, the gold answers.

    Returns:
        (N,), between 0 and 1.

    Raises:
        ValueError: the numbers of texts differ.
    """
    from rouge_score.rouge_scorer import RougeScorer  # takes a second to import
    from rouge_score.tokenizers import DefaultTokenizer

    published = DefaultTokenizer(use_stemmer=True)
    scorers = {
        is_published: RougeScorer(["rougeL"], tokenizer=tokenizer)
        for is_published, tokenizer in ((True, published), (False, _AnyScript(published)))
    }
    recalls = []
    for pair in zip(generated, references, strict=True):
        text, reference = (unicodedata.normalize("NFC", one) for one in pair)
        scorer = scorers[all(map(_is_european, text + reference))]
        recalls.append(scorer.score(target=reference, prediction=text)["rougeL"].recall)
    return np.array(recalls, dtype=float)


def _is_european(character: str) -> bool:
    return character < BEYOND_EUROPEAN_LATIN or not character.isalnum()


class _AnyScript:
    """A tokenizer for rouge-score: its own for ASCII words, whole words of any script."""

    def __init__(self, ascii_tokenizer: Tokenizer) -> None:
        self.ascii_tokenizer = ascii_tokenizer

    def tokenize(self, text: str) -> list[str]:
        tokens = []
        for word in words(text):
            tokens += self.ascii_tokenizer.tokenize(word) if word.isascii() else [word]
        return tokens
