"""Means over seeds, and Student's intervals of them worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from closer_look.metrics import average_seeds

KEYS = ["method", "metric"]


def line(method, seed, value, low=0.0, high=1.0, reason=""):
    found = {"method": method, "metric": "mu", "seed": seed, "value": value}
    return found | {"ci_low": low, "ci_high": high, "reason": reason}


def average(*lines):
    table = pd.DataFrame(lines).astype({"seed": "Int64"})
    return average_seeds(table, KEYS, {"value": ""})


def test_values_and_bounds_over_rows_are_averaged():
    (row,) = average(line("a", 1, 0.6, 0.5, 0.8), line("a", 2, 0.8, 0.6, 0.9)).to_dict("records")
    assert row["value"] == pytest.approx(0.7)
    assert (row["ci_low"], row["ci_high"]) == pytest.approx((0.55, 0.85))
    assert row["n_seeds"] == 2


@pytest.mark.parametrize(
    ("values", "half"),
    [
        ((0.6, 0.8), 12.706205 * 0.1),  # standard deviation 0.1 * sqrt(2), over sqrt(2)
        ((0.1, 0.2, 0.3), 4.302653 * 0.1 / 3**0.5),
        ((0.4, 0.4, 0.4, 0.4), 0.0),
    ],
)
def test_interval_over_seeds_is_student_s(values, half):
    (row,) = average(*(line("a", n, value) for n, value in enumerate(values))).to_dict("records")
    mean = np.mean(values)
    assert (row["seed_low"], row["seed_high"]) == pytest.approx((mean - half, mean + half))


@pytest.mark.parametrize("seed", [1001, None])
def test_one_seed_or_none_has_no_interval_over_seeds(seed):
    (row,) = average(line("before", seed, 0.6)).to_dict("records")
    assert (row["value"], row["n_seeds"]) == (0.6, 1)
    assert np.isnan([row["seed_low"], row["seed_high"]]).all()


def test_what_a_seed_lacks_has_no_mean_and_the_reason_stays():
    lines = line("a", 1, 0.6), line("a", 2, np.nan, reason="no row"), line("a", 3, 0.7)
    (row,) = average(*lines).to_dict("records")
    assert np.isnan([row["value"], row["seed_low"], row["seed_high"]]).all()
    assert row["reason"] == "no row"


def test_what_has_no_row_of_a_seed_has_no_mean():
    lines = line("a", 1, 0.6), line("a", 2, 0.7), line("a", 1, 0.5) | {"metric": "fe"}
    kept, forgotten = average(*lines).to_dict("records")
    assert kept["value"] == pytest.approx(0.65)
    assert np.isnan(forgotten["value"])
    assert forgotten["n_seeds"] == 2


def test_rows_stand_in_the_order_of_the_first_seed():
    lines = [line(method, seed, 0.5) for seed in (2, 1) for method in ("b", "a")]
    assert average(*lines)["method"].tolist() == ["b", "a"]
