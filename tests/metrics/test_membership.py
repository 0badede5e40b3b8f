"""Membership inference, with numbers worked out by hand."""

import warnings
import zlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from closer_look.metrics import (
    loss_score,
    membership_auc,
    membership_auc_interval,
    min_k,
    min_k_plus_plus,
    privleak,
    reference_score,
    zlib_score,
)

NAN = np.nan
SCORES = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=12)  # with ties


@pytest.fixture(autouse=True)
def _no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def test_loss_score_is_nll_per_token():
    assert loss_score([6, 1], [3, 4]).tolist() == [2, 0.25]


def test_zlib_score_is_loss_per_byte_of_compressed_text():
    # zlib keeps "ab" as it is: 2 bytes of header, 2 + 2 of a block with it, 4 of check sum.
    assert len(zlib.compress(b"ab")) == 10
    assert zlib_score([6], [3], ["ab"]).tolist() == pytest.approx([0.2])
    once, repeated = zlib_score([500, 500], [100, 100], ["The river rose.", "The river rose." * 40])
    assert repeated > once / 40  # of the same loss per byte, repetition is the less surprising
    accented = zlib_score([1], [1], ["é"])
    assert accented.tolist() == [1 / len(zlib.compress("é".encode()))]


def test_zlib_score_of_no_rows_and_of_an_empty_text():
    assert zlib_score([], [], []).tolist() == []
    assert zlib_score([8], [1], [""]).tolist() == [8 / len(zlib.compress(b""))]


@pytest.mark.parametrize("texts", [["one"], ["one", "two", "three"]])
def test_zlib_score_wants_as_many_texts_as_rows(texts):
    with pytest.raises(ValueError, match="argument 2 is"):
        zlib_score([1, 2], [1, 1], texts)


def test_reference_score_is_the_loss_above_the_reference():
    # Per token 2 against 5, and 1 against 0.5.
    assert reference_score([6, 4], [3, 4], [15, 2]).tolist() == [-3, 0.5]


def test_row_without_tokens_or_nll_has_no_score():
    nll, n_tokens = [0, NAN], [0, 2]
    assert np.isnan(loss_score(nll, n_tokens)).all()
    assert np.isnan(zlib_score(nll, n_tokens, ["", "a"])).all()
    assert np.isnan(reference_score(nll, n_tokens, [0, 1])).all()


@pytest.mark.parametrize(
    ("k", "expected"),
    [
        (0.4, 4.5),  # 2 of 5 tokens: -5 and -4
        (0.5, 4.5),  # 2.5, rounded down
        (1, 3),  # all
        (0.01, 5),  # none, but one at least: the least likely
    ],
)
def test_min_k(k, expected):
    value = min_k([-1, -5, -2, -4, -3], k)
    assert value == expected
    assert type(value) is float


def test_min_k_plus_plus_counts_in_standard_deviations():
    # (-3 + 1) / 2 = -1, (-2 + 2) / 1 = 0, (-6 + 2) / 1 = -4, (-1 + 3) / 0.5 = 4. The lowest 2 of 4:
    # -4 and -1.
    rows = [-3, -2, -6, -1], [-1, -2, -2, -3], [4, 1, 1, 0.25]
    assert min_k_plus_plus(*rows, 0.5) == 2.5
    assert min_k_plus_plus(*rows, 1) == 0.25
    assert type(min_k_plus_plus(*rows, 1)) is float


@pytest.mark.parametrize("variance", [0, -1e-9, 1e-8])
def test_min_k_plus_plus_stays_a_number_where_the_model_is_sure(variance):
    # Of at least 1e-6, so (-0.002 - 0) / 0.001. Rounding can make a variance negative.
    assert min_k_plus_plus([-0.002], [0], [variance], 1) == pytest.approx(2)
    assert min_k_plus_plus([0], [0], [variance], 1) == 0


@pytest.mark.parametrize("values", [[], [-1, NAN, -2, -3]])
def test_min_k_is_nan_for_a_row_without_tokens_or_with_a_nan(values):
    assert np.isnan(min_k(values, 0.25))
    assert np.isnan(min_k_plus_plus(values, np.zeros(len(values)), np.ones(len(values)), 0.25))


@pytest.mark.parametrize("k", [0, -0.1, 40, NAN])
def test_min_k_wants_a_share(k):
    with pytest.raises(ValueError, match=f"share of the tokens that count, above 0.* got {k}"):
        min_k([-1, -2], k)
    with pytest.raises(ValueError, match="share of the tokens that count"):
        min_k_plus_plus([-1, -2], [0, 0], [1, 1], k)


def test_membership_auc():
    # Of the 6 pairs, forget below holdout: 1 < 2, 1 < 4, 3 < 4, 2 < 4; one tie, 2 and 2; 3 > 2.
    assert membership_auc([1, 3, 2], [2, 4]) == pytest.approx(4.5 / 6)
    assert type(membership_auc(pd.Series([1, 3, 2]), pd.Series([2, 4]))) is float


@pytest.mark.parametrize(
    ("forget", "holdout", "expected"),
    [
        ([1, 2], [3, 4, 5], 1),
        ([6, 7], [3, 4, 5], 0),
        ([2, 2, 2], [2, 2], 0.5),
        ([np.inf, 1], [np.inf], 0.75),  # a tie, and 1 below infinity
    ],
)
def test_membership_auc_at_its_ends_and_of_ties(forget, holdout, expected):
    assert membership_auc(forget, holdout) == expected


@given(SCORES, SCORES)
def test_membership_auc_counts_pairs(forget, holdout):
    pairs = [(low < high) + (low == high) / 2 for low in forget for high in holdout]
    auc = membership_auc(forget, holdout)
    assert auc == pytest.approx(np.mean(pairs))
    assert membership_auc(holdout, forget) == pytest.approx(1 - auc)
    assert membership_auc(np.exp(forget), np.exp(holdout)) == auc  # the order alone counts


@pytest.mark.parametrize(("forget", "holdout"), [([], [1.0]), ([1.0], []), ([1.0], [NAN])])
def test_membership_auc_wants_rows_of_both_sets(forget, holdout):
    for function in (membership_auc, membership_auc_interval):
        with pytest.raises(ValueError, match="at least one score from each of two sets of rows"):
            function(forget, holdout)


def test_rows_without_a_score_are_left_out():
    forget, holdout = [1, NAN, 3, 2], [2, 4, NAN]
    assert membership_auc(forget, holdout) == membership_auc([1, 3, 2], [2, 4])
    assert membership_auc_interval(forget, holdout, 20) == membership_auc_interval(
        [1, 3, 2], [2, 4], 20
    )


def test_interval_of_sets_that_do_not_overlap_or_are_all_alike_has_no_width():
    assert membership_auc_interval([1, 2], [3, 4, 5], 50) == (1, 1)
    assert membership_auc_interval([2, 2], [2, 2, 2], 50) == (0.5, 0.5)


def test_interval_depends_on_the_seed_alone():
    rng = np.random.default_rng(5)
    sets = rng.normal(size=30), rng.normal(0.5, size=20)
    low, high = membership_auc_interval(*sets, 100, seed=3)
    assert (low, high) == membership_auc_interval(*sets, 100, seed=3)
    assert (low, high) != membership_auc_interval(*sets, 100, seed=4)
    assert low < membership_auc(*sets) < high


def test_rows_are_resampled_within_each_set():
    # Of 2 forget rows (0 and 1) against holdout rows all in between, a resample's AUC is the share
    # of zeros drawn: 0, 1/2 or 1, with probabilities 1/4, 1/2 and 1/4.
    assert membership_auc_interval([0, 1], [0.5] * 9, 400) == (0, 1)
    # Of 40 forget rows, the share is within .5 +- 1.96 sqrt(.25 / 40) = .5 +- .155.
    low, high = membership_auc_interval([0, 1] * 20, [0.5], 4000)
    assert (low, high) == pytest.approx((0.345, 0.655), abs=0.021)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    # Normal scores a unit apart: a forget row is below a holdout row with Phi(1 / sqrt 2).
    truth = norm.cdf(1 / np.sqrt(2))
    rng = np.random.default_rng(11)
    trials = 200
    covered = 0
    for seed in range(trials):
        sets = rng.normal(size=40), rng.normal(1, size=40)
        low, high = membership_auc_interval(*sets, 100, seed)
        covered += low <= truth <= high
    assert 0.90 <= covered / trials <= 0.99  # 95 % within three standard errors


@pytest.mark.parametrize(
    ("auc", "retain_auc", "expected"),
    [
        (0.5, 0.5, 0),
        (0.9, 0.5, -80),  # 100 (0.1 - 0.5) / 0.5
        (0.25, 0.5, 50),
        (1, 0.6, -100),
        (0, 0.5, 100),
        (0, 0, 0),
    ],
)
def test_privleak(auc, retain_auc, expected):
    assert privleak(auc, retain_auc) == pytest.approx(expected)


@pytest.mark.parametrize(("auc", "retain_auc"), [(0.5, 1), (-0.1, 0.5), (0.5, 1.1), (NAN, 0.5)])
def test_privleak_wants_two_aucs(auc, retain_auc):
    with pytest.raises(ValueError, match=f"below 1, got {auc} and {retain_auc}"):
        privleak(auc, retain_auc)
