"""Where in an answer the fact stands: what attacks that read inside a model look for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

from closer_look.metrics.scripts import SPACED_WORD

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class Fact(NamedTuple):
    """The tokens of a fact, and those that come before the last of them.

    The last n tokens of ``text`` predict the n ``labels``.
    """

    row_id: str
    text: list[int]
    labels: list[int]


def find_facts(
    tokenizer: PreTrainedTokenizerBase, rows: pd.DataFrame, questions: pd.DataFrame
) -> list[Fact]:
    """Find the fact in each row's answer: its key fact, or else its rarest word.

    The first word of an answer would not do: sentences begin alike, and a model that was never
    trained on the row guesses it.

    Args:
        tokenizer: of the model that is attacked, whose chat template may hold an instruction.
        rows: rows of the questions table.
        questions: the run's whole table: a word counts as rare if few of its answers have it.

    Returns:
        A fact for each row whose answer holds one. Without a key fact, rows have none whose every
        word stands in the question, or whose script has no spaces between words.
    """
    from closer_look.models.tokens import encode, split_text

    counts = Counter(word for answer in questions["answer"] for word in _words(answer))
    encoded = encode(tokenizer, list(rows["question"]), list(rows["answer"]))
    facts = []
    for row, tokens in zip(rows.itertuples(), encoded, strict=True):
        pieces = split_text(tokenizer, tokens.answer)
        place = _place("".join(pieces), row, counts)
        if place:
            start, end = _covering(pieces, *place)
            text, labels = tokens.prompt + tokens.answer[: end - 1], tokens.answer[start:end]
            facts.append(Fact(row.row_id, text, labels))
    return facts


def last_logits(model: PreTrainedModel, texts: Sequence[list[int]], n_tokens: int) -> Tensor:
    """Compute a model's logits at the last tokens of texts of one length, (B, n, V)."""
    import torch

    model.eval()
    # Where a family can, it leaves out the others: with a copy for each layer, they would be many.
    options = {"logits_to_keep": n_tokens} if model._supports_logits_to_keep() else {}
    ids = torch.tensor(texts, device=model.device)
    return model(input_ids=ids, use_cache=False, **options).logits[:, -n_tokens:]


def _place(text: str, row, counts: Counter) -> tuple[int, int] | None:
    """Find where in an answer's text the fact begins and ends."""
    if isinstance(row.key_fact, str):
        found = re.search(re.escape(row.key_fact), text, re.IGNORECASE)
        if found:
            return found.span()
    asked = _words(row.question)
    known = _words(row.answer)
    words = [w for w in SPACED_WORD.finditer(text) if w[0].lower() in known - asked]
    return min(words, key=lambda word: counts[word[0].lower()]).span() if words else None


def _words(text: str) -> set[str]:
    return {word.lower() for word in SPACED_WORD.findall(text)}


def _covering(pieces: list[str], start: int, end: int) -> tuple[int, int]:
    """Return the bounds of the tokens that hold a part of the text from start to end."""
    ends = list(accumulate(map(len, pieces)))
    inside = [i for i, stop in enumerate(ends) if stop > start and stop - len(pieces[i]) < end]
    first = inside[0]
    while first and not pieces[first - 1]:  # a part of the first character
        first -= 1
    return first, inside[-1] + 1
