"""Metrics of given answers, with numbers worked out by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closer_look.metrics import probability, probability_among, truth_ratio

LOG2 = np.log(2)
NAN = np.nan
NLL = st.floats(0, 1e5)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_probability_is_the_geometric_mean_over_tokens():
    # Summed nll 3 log 2 over 3 tokens: 1/2 each; 4 log 2 over 2 tokens: 1/4 each.
    assert probability([3 * LOG2, 4 * LOG2, 0], [3, 2, 5]).tolist() == pytest.approx([0.5, 0.25, 1])


def test_probability_among_the_wrong_options():
    # Row 0: p = 1/2, wrong 1/4 and 1/4 (2 tokens, 4 log 2): 1/2 of 1. Row 1: 1/4 of 1/4 + 1/2.
    values = probability_among(
        [LOG2, 2 * LOG2], [1, 1], [[2 * LOG2, 4 * LOG2], [LOG2, NAN]], [[1, 2], [1, NAN]]
    )
    assert values.tolist() == pytest.approx([1 / 2, 1 / 3])


def test_probability_among_stays_a_number_where_every_probability_underflows():
    # exp(-2000) is 0 in float64. Equal options: 1/3; one option e times likelier than the answer.
    values = probability_among(
        [2000, 2000], [1, 1], [[2000, 2000], [1999, NAN]], [[1, 1], [1, NAN]]
    )
    assert values.tolist() == pytest.approx([1 / 3, 1 / (1 + np.e)])


def test_truth_ratio():
    # Per token: paraphrased log 2; wrong 2 log 2 and 4 log 2, mean 3 log 2: r = exp(2 log 2) = 4.
    # Row 1 has one wrong answer, as likely as the paraphrased one: r = 1.
    values = truth_ratio(
        [3 * LOG2, LOG2],
        [3, 1],
        [[2 * LOG2, 8 * LOG2], [2 * LOG2, NAN]],
        [[1, 2], [2, NAN]],
    )
    assert values.tolist() == pytest.approx([4, 1])


def test_truth_ratio_is_infinite_where_it_overflows_and_zero_where_it_underflows():
    assert truth_ratio([0, 5000], [1, 1], [[5000], [0]], [[1], [1]]).tolist() == [np.inf, 0]


@pytest.mark.parametrize("metric", [probability_among, truth_ratio])
@pytest.mark.parametrize("padding", [np.full((2, 2), NAN), np.empty((2, 0))])
def test_rows_without_wrong_answers_are_nan(metric, padding):
    assert np.isnan(metric([1, 2], [1, 1], padding, padding)).all()


@pytest.mark.parametrize("metric", [probability_among, truth_ratio])
def test_padding_with_nan_changes_nothing(metric):
    wrong_nll, wrong_n_tokens = np.array([[2.0, 5.0]]), np.array([[2.0, 3.0]])
    padding = np.full((1, 3), NAN)
    padded = metric([3], [2], np.hstack([padding, wrong_nll]), np.hstack([padding, wrong_n_tokens]))
    assert padded == pytest.approx(metric([3], [2], wrong_nll, wrong_n_tokens))


@given(NLL, st.integers(1, 50), st.lists(NLL, min_size=1, max_size=5))
def test_values_are_in_range_and_options_share_all_of_the_probability(nll, n_tokens, wrong):
    counts = [n_tokens] * (1 + len(wrong))
    assert 0 <= probability([nll], [n_tokens])[0] <= 1
    shares = []
    for chosen in range(1 + len(wrong)):
        options = [nll, *wrong]
        own = options.pop(chosen)
        shares.append(probability_among([own], [n_tokens], [options], [counts[1:]])[0])
    assert sum(shares) == pytest.approx(1)
    assert truth_ratio([nll], [n_tokens], [wrong], [counts[1:]])[0] >= 0
