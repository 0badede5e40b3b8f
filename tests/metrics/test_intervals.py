"""Intervals, with numbers worked out by hand, and how often they cover the truth."""

import numpy as np
import pytest
from scipy.stats import binom

from closer_look.metrics import proportion_interval
from closer_look.metrics.intervals import percentile_interval


def test_percentile_interval():
    # Of 0, 1, ..., 200: 2.5 % of the way is 5, 97.5 % is 195.
    interval = percentile_interval(np.arange(201)[::-1])
    assert interval == (5, 195)
    assert [type(end) for end in interval] == [float, float]


def test_proportion_interval_where_none_or_all_succeed():
    # None of n: the upper end p has (1 - p)^n = 2.5 %.
    upper = 1 - 0.025 ** (1 / 20)
    assert proportion_interval(0, 20) == (0, pytest.approx(upper))
    assert proportion_interval(20, 20) == (pytest.approx(1 - upper), 1)


def test_proportion_interval_ends_where_the_tails_hold_two_and_a_half_per_cent():
    low, high = proportion_interval(np.int64(3), np.int64(10))
    assert binom.sf(2, 10, low) == pytest.approx(0.025)  # 3 or more
    assert binom.cdf(3, 10, high) == pytest.approx(0.025)  # 3 or fewer


@pytest.mark.parametrize(("n_rows", "mean_coverage"), [(5, 0.990), (40, 0.970)])
def test_proportion_interval_covers_at_least_as_often_as_it_says(n_rows, mean_coverage):
    low, high = np.transpose([proportion_interval(k, n_rows) for k in range(n_rows + 1)])
    truths = np.linspace(0.005, 0.995, 199)
    # The exact share of samples whose interval holds the truth, for each truth.
    coverage = [
        binom.pmf(np.flatnonzero((low <= p) & (p <= high)), n_rows, p).sum() for p in truths
    ]
    assert min(coverage) >= 0.95
    assert np.mean(coverage) == pytest.approx(mean_coverage, abs=0.001)  # near, with enough rows


@pytest.mark.parametrize(("n_successes", "n_rows"), [(0, 0), (6, 5)])
def test_proportion_interval_wants_rows_and_no_more_successes_than_rows(n_successes, n_rows):
    with pytest.raises(ValueError, match="rows is no proportion"):
        proportion_interval(n_successes, n_rows)
