"""Metrics of a text, with numbers worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closer_look.metrics import rouge_l_recall, token_entropy

TOKENS = st.lists(st.integers(0, 5), min_size=2, max_size=60)


@pytest.mark.parametrize("token_ids", [[], [7]])
def test_token_entropy_of_at_most_one_token_is_zero(token_ids):
    assert token_entropy(token_ids) == 0


@pytest.mark.parametrize(
    ("token_ids", "expected"),
    [
        ([3, 3, 3], 0),
        ([3, 1, 2], 1),
        # Shares 1/2, 1/4, 1/4: 1.5 bits of the log2(4) = 2 there could be.
        ([9, 9, 4, 7], 0.75),
        # Two words twice each: 1 bit of 2.
        (np.array([1, 2, 1, 2]), 0.5),
    ],
)
def test_token_entropy(token_ids, expected):
    value = token_entropy(token_ids)
    assert value == expected
    assert type(value) is float


@given(TOKENS)
def test_token_entropy_is_between_zero_and_one_whatever_the_order_and_the_names(token_ids):
    value = token_entropy(token_ids)
    assert 0 <= value <= 1
    assert token_entropy(token_ids[::-1]) == pytest.approx(value)
    assert token_entropy([100 - token for token in token_ids]) == pytest.approx(value)


@given(TOKENS)
def test_token_entropy_falls_when_one_word_replaces_all_others(token_ids):
    assert token_entropy([token_ids[0]] * len(token_ids)) == 0 <= token_entropy(token_ids)


def test_rouge_l_recall():
    generated = [
        "the cat sat on the mat",  # all of it
        "mat the on cat",  # longest common subsequence of one word: 1 of 3
        "He was writing two novels",  # the stemmer: wrote stays, novels -> novel, writing -> write
        "",
        "dog",
    ]
    references = ["the cat sat", "cat the on", "write a novel", "the cat", "the cat"]
    # Row 2: "the on" of "cat the on": 2 of 3. Row 3: "write novel" of "write a novel".
    values = rouge_l_recall(generated, references)
    assert values.tolist() == pytest.approx([1, 2 / 3, 2 / 3, 0, 0])
    assert values.dtype == float


def test_rouge_l_recall_of_no_texts_is_an_empty_array():
    assert rouge_l_recall([], []).tolist() == []


def test_rouge_l_recall_wants_as_many_references_as_texts():
    with pytest.raises(ValueError, match="shorter"):
        rouge_l_recall(["one", "two"], ["one"])
