"""What a model has by heart, with numbers worked out by hand."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closer_look.metrics import exact_memorisation, extraction_strength, leak_at_k

HITS = st.lists(st.booleans(), min_size=1, max_size=30)


@pytest.mark.parametrize(
    ("hits", "exact", "extracted"),
    [
        ([1, 1, 1, 1], 1, 1),
        ([0, 0, 0], 0, 0),
        # 3 of 5 hit. Given 4 tokens, the last follows: 1 of 5.
        ([1, 1, 0, 0, 1], 3 / 5, 1 / 5),
        # The first alone is missed. Given it, the other 3 follow.
        ([0, 1, 1, 1], 3 / 4, 3 / 4),
        # The last is missed: however much is given, the text is never completed.
        ([1, 1, 1, 0], 3 / 4, 0),
        ([1], 1, 1),
        ([0], 0, 0),
    ],
)
def test_memorisation(hits, exact, extracted):
    for given_as in (np.array(hits, dtype=bool), [bool(hit) for hit in hits]):
        values = exact_memorisation(given_as), extraction_strength(given_as)
        assert values == pytest.approx((exact, extracted))
        assert all(type(value) is float for value in values)


@pytest.mark.parametrize("metric", [exact_memorisation, extraction_strength])
def test_text_without_tokens_has_no_memorisation(metric):
    assert np.isnan(metric([]))


@given(HITS)
def test_no_more_can_be_extracted_than_is_memorised(hits):
    assert 0 <= extraction_strength(hits) <= exact_memorisation(hits) <= 1


@given(HITS)
def test_extraction_strength_is_the_longest_suffix_of_hits(hits):
    longest = next(n for n in range(len(hits), -1, -1) if all(hits[len(hits) - n :]))
    assert extraction_strength(hits) == pytest.approx(longest / len(hits))


def test_leak_at_k():
    # 2 of 5 samples leak. 1 drawn: 2/5. 2 drawn: C(3, 2) = 3 of C(5, 2) = 10 pairs have no leak.
    # 4 drawn: three samples have none, so one of four always does.
    hits = [True, False, False, True, False]
    assert [leak_at_k(hits, k) for k in (1, 2, 4, 5)] == pytest.approx([2 / 5, 7 / 10, 1, 1])
    assert leak_at_k([False] * 5, 5) == 0


@given(st.lists(st.booleans(), min_size=1, max_size=8), st.data())
def test_leak_at_k_is_the_share_of_draws_with_a_leak(hits, data):
    k = data.draw(st.integers(1, len(hits)))
    draws = list(combinations(hits, k))
    assert leak_at_k(hits, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize("p", [0.01, 0.3, 0.9])
@pytest.mark.parametrize("k", [1, 3, 10])
def test_leak_at_k_is_unbiased(p, k):
    # Its mean over all numbers of leaks among 10 samples, each as often as it occurs.
    n = 10
    mean = sum(
        comb(n, leaks) * p**leaks * (1 - p) ** (n - leaks) * leak_at_k(np.arange(n) < leaks, k)
        for leaks in range(n + 1)
    )
    assert mean == pytest.approx(1 - (1 - p) ** k)


@pytest.mark.parametrize(("hits", "k"), [([True, False], 3), ([True, False], 0), ([], 1)])
def test_leak_at_k_wants_as_many_samples_as_are_drawn(hits, k):
    message = f"k from 1 to the number of samples, {len(hits)}, got {k}"
    with pytest.raises(ValueError, match=message):
        leak_at_k(hits, k)
