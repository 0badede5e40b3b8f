"""From rows to one number, with numbers worked out by hand."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from closer_look.metrics import (
    METRICS,
    forget_efficacy,
    forget_quality,
    forget_truth_ratio,
    model_utility,
    retain_truth_ratio,
)

FRACTIONS = st.lists(st.just(0.0) | st.floats(1e-300, 1), min_size=1, max_size=20)
RATIOS = st.lists(st.floats(0, np.inf), min_size=1, max_size=20)


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_forget_truth_ratio():
    # min(r, 1/r): 1/2, 1/4, 1, 0, 0; their mean is 0.35.
    assert forget_truth_ratio([2, 0.25, 1, 0, np.inf]) == pytest.approx(0.65)


def test_retain_truth_ratio():
    # max(0, 1 - 1/r): 1/2, 0, 0, 0, 1; their mean is 0.3.
    assert retain_truth_ratio([2, 0.25, 1, 0, np.inf]) == pytest.approx(0.3)


def test_model_utility_is_the_harmonic_mean():
    # 3 / (1 + 2 + 4)
    assert model_utility([1, 0.5, 0.25]) == pytest.approx(3 / 7)


@pytest.mark.parametrize("values", [[0, 1, 1], [0, 0], [5e-324, 1]])
def test_one_zero_makes_model_utility_zero(values):
    assert model_utility(values) == 0


def test_forget_efficacy_is_one_minus_the_mean():
    assert forget_efficacy([0.1, 0.2, 0.3, 0.4, 0]) == pytest.approx(0.8)


@pytest.mark.parametrize("summary", [model_utility, forget_efficacy])
def test_summaries_want_at_least_one_value(summary):
    with pytest.raises(ValueError, match=f"{summary.__name__} needs at least one value, got none"):
        summary([])


@pytest.mark.parametrize("summary", [model_utility, forget_efficacy])
@pytest.mark.parametrize("odd", [-0.1, 1.5, np.nan, np.inf])
def test_summaries_want_values_between_zero_and_one(summary, odd):
    message = f"{summary.__name__} takes values between 0 and 1, got {odd}"
    with pytest.raises(ValueError, match=message):
        summary([0.5, odd])


@pytest.mark.parametrize(
    "function", [forget_truth_ratio, retain_truth_ratio, model_utility, forget_efficacy]
)
def test_leading_axes_are_kept_and_one_axis_gives_a_float(function):
    rows = np.random.default_rng(3).random((4, 7))
    assert function(rows).tolist() == pytest.approx([function(row) for row in rows])
    assert isinstance(function(rows[0]), float)


@given(RATIOS)
def test_truth_ratios_are_between_zero_and_one(r):
    assert 0 <= forget_truth_ratio(r) <= 1
    assert 0 <= retain_truth_ratio(r) <= 1


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=20))
def test_forget_truth_ratio_does_not_care_on_which_side_of_one_r_is(r):
    assert forget_truth_ratio(1 / np.array(r)) == pytest.approx(forget_truth_ratio(r))


@given(FRACTIONS)
def test_model_utility_lies_between_the_smallest_value_and_the_mean(values):
    utility = model_utility(values)
    assert min(values) <= utility * (1 + 1e-12)
    assert utility <= np.mean(values) * (1 + 1e-12)


@given(FRACTIONS)
def test_forget_efficacy_is_between_zero_and_one_and_ignores_order(values):
    assert 0 <= forget_efficacy(values) <= 1
    assert forget_efficacy(values[::-1]) == pytest.approx(forget_efficacy(values))


def test_forget_quality_of_the_same_rows_is_one():
    assert forget_quality([0.1, 0.5, 2.0], [0.1, 0.5, 2.0]) == 1


def test_forget_quality_of_rows_that_do_not_overlap():
    # All 3 + 3 rows apart: the largest distance, which 2 of the C(6, 3) = 20 orders have.
    assert forget_quality([1, 2, 3], [4, 5, 6]) == pytest.approx(2 / 20)


def test_forget_quality_leaves_out_rows_without_a_truth_ratio():
    assert forget_quality([1, np.nan, 2, 3], [4, 5, 6, np.nan]) == forget_quality(
        [1, 2, 3], [4, 5, 6]
    )


@pytest.mark.parametrize(("r", "r_retain"), [([], [1.0]), ([1.0], [np.nan])])
def test_forget_quality_wants_rows_of_both_models(r, r_retain):
    with pytest.raises(ValueError, match="at least one truth ratio from each of two models"):
        forget_quality(r, r_retain)


def test_metrics_aggregate_over_the_rows_of_a_split():
    values = np.array([2.0, 0.25, 1.0])
    assert METRICS["truth_ratio"].over_rows(values, "forget") == forget_truth_ratio(values)
    for split in ("retain", "real_authors", "world_facts", "neighbour"):
        assert METRICS["truth_ratio"].over_rows(values, split) == retain_truth_ratio(values)
    means = METRICS.keys() - {"truth_ratio"}
    assert means == {
        *("rouge", "probability", "token_entropy", "cosine_similarity", "entailment"),
        *("exact_memorisation", "extraction_strength"),
    }
    assert all(METRICS[name].over_rows(values, "forget") == values.mean() for name in means)
