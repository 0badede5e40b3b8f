"""Scores, ranks and tests between methods; the statistics are judged by simulation."""

import numpy as np
import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.metrics import compare, summarise
from closer_look.metrics.comparison import Resampled, holm, ranks

GROUPS = (("retain", 0, 12), ("world_facts", 0, 12), ("forget", 1, 12), ("forget", 2, 12))


@pytest.fixture
def make_run(make_row_metrics):
    """Row metrics of a run: method -> level of its metrics on rows to forget, for each seed.

    Rows to retain have 0.8 of everything, so MU is 0.8; FE is one minus the level.
    """

    def make(levels, spread=0.05, utility=0.8):
        rng = np.random.default_rng(0)
        table = make_row_metrics(*GROUPS, value=utility, truth_ratio=np.nan)
        is_forget = table["split"] == "forget"
        of_rows = rng.normal(0, spread, len(table)) * is_forget  # the same for all methods
        cells = []
        for method, of_seeds in levels.items():
            for seed, level in enumerate(of_seeds, start=1001):
                cell = table.assign(method=method, seed=seed)
                terms = ["rouge", "probability", "cosine_similarity", "entailment"]
                for term in terms:
                    cell.loc[is_forget, term] = level + of_rows[is_forget]
                cells.append(cell)
        return pd.concat(cells, ignore_index=True).sample(frac=1, random_state=0)

    return make


def test_mu_and_fe_are_those_of_the_summary(make_run):
    table = make_run({"before": [0.9], "a": [0.25]})
    table.loc[table.index[::5], "entailment"] = np.nan
    table["truth_ratio"] = np.random.default_rng(1).uniform(0.2, 5, len(table))
    line = compare(table, ["a"], "before", n_resamples=50).iloc[0]
    summary = summarise(table[table["method"] == "a"], n_resamples=1).groupby("metric")["value"]
    assert line["model_utility"] == pytest.approx(summary.mean()["model_utility"])
    assert line["forget_efficacy"] == pytest.approx(summary.mean()["forget_efficacy"])
    assert line["score"] == pytest.approx(
        2 / (1 / line["model_utility"] + 1 / line["forget_efficacy"])
    )


def test_the_best_comes_first_and_equals_share_a_rank(make_run):
    levels = {"before": [0.9], "a": [0.5, 0.51, 0.49], "b": [0.1, 0.1, 0.1], "c": [0.5, 0.49, 0.51]}
    table = compare(make_run(levels, spread=0.01), ["a", "b", "c"], "before")
    assert table["method"].tolist() == ["b", "a", "c"]
    assert table["rank"].tolist() == [1, 2, 2]
    assert table["n_seeds"].tolist() == [3, 3, 3]
    assert table["score"].tolist() == pytest.approx(
        [2 / (1 / 0.8 + 1 / 0.9)] + [2 / 3.25] * 2, 0.01
    )
    assert table["p_value"].iloc[0] < 0.05 < table["p_value"].iloc[1]
    assert np.isnan(table["p_value"].iloc[2])
    assert table["difference"].iloc[0] == pytest.approx(table["score"].diff(-1).iloc[0])


def test_methods_are_compared_on_the_same_rows(make_run):
    """Rows differ a lot, methods by a little on each: only pairs show it."""
    table = compare(
        make_run({"before": [0.9], "a": [0.46], "b": [0.5]}, spread=0.2), ["a", "b"], "before"
    )
    assert table["rank"].tolist() == [1, 1]
    assert table["score_low"].iloc[0] < table["score"].iloc[1]
    assert table["p_value"].iloc[0] < 0.01


def test_one_seed_says_nothing_of_others(make_run):
    table = compare(make_run({"before": [0.9], "a": [0.5]}), ["a"], "before", n_resamples=200)
    line = table.iloc[0]
    assert line["n_seeds"] == 1
    assert np.isnan([line["score_seeds_low"], line["score_seeds_high"]]).all()
    assert line["score_low"] == line["score_questions_low"]
    without = compare(
        make_run({"before": [0.9], "a": [0.5]}).drop(columns="seed"),
        ["a"],
        "before",
        n_resamples=200,
    )
    pd.testing.assert_frame_equal(without, table)


def test_the_interval_over_both_holds_that_over_questions(make_run):
    levels = {"before": [0.9], "a": [0.4, 0.5, 0.6]}
    line = compare(make_run(levels), ["a"], "before").iloc[0]
    assert line["score_low"] < line["score_questions_low"] < line["score"]
    assert line["score"] < line["score_questions_high"] < line["score_high"] <= 1
    seeds = [2 / (1 / 0.8 + 1 / fe) for fe in (0.6, 0.5, 0.4)]
    assert line["score_seeds_high"] == pytest.approx(
        np.mean(seeds) + 4.303 * np.std(seeds, ddof=1) / np.sqrt(3), abs=0.02
    )


def test_who_does_not_keep_utility_comes_last_where_efficacy_ranks(make_run):
    """A method that has broken the model forgets best of all."""
    kept = make_run({"before": [0.9], "a": [0.5, 0.5]}, spread=0)
    broken = make_run({"broken": [0.0, 0.0]}, spread=0, utility=0.1)
    table = pd.concat([kept, broken])
    by_efficacy = compare(table, ["broken", "a"], "before", "forget_efficacy", n_resamples=50)
    assert by_efficacy["method"].tolist() == ["a", "broken"]
    assert by_efficacy["rank"].tolist() == [1, 2]
    assert by_efficacy["keeps_utility"].tolist() == [True, False]
    assert by_efficacy["score"].tolist() == by_efficacy["forget_efficacy"].tolist()
    assert by_efficacy["p_value"].isna().all()


@pytest.mark.parametrize(("split", "what"), [("forget", "to retain"), ("retain", "to forget")])
def test_nothing_to_rank_by(make_run, split, what):
    table = make_run({"before": [0.9], "a": [0.5]})
    with pytest.raises(InputError, match=f"cannot be ranked without rows {what}"):
        compare(table[table["split"] == split], ["a"], "before", n_resamples=10)


def test_a_resample_without_any_value_takes_the_mean_of_all(make_run):
    table = make_run({"before": [0.9], "a": [0.5]})
    one_row = table["row_id"] == "forget_1_0"
    table["entailment"] = table["entailment"].where(one_row | (table["split"] != "forget"))
    line = compare(table, ["a"], "before", n_resamples=300).iloc[0]
    assert line["score_low"] < line["score"] < line["score_high"]


def test_holm_by_hand():
    # Sorted: 0.01 x 4, 0.02 x 3, 0.03 x 2 (no less than the one before), 0.5.
    assert holm([0.03, 0.01, 0.5, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.9, 0.8]).tolist() == [1, 1]


def test_ranks_by_hand():
    low, high = [0.8, 0.6, 0.5, 0.1], [0.9, 0.85, 0.7, 0.2]
    assert ranks(low, high, [False] * 4).tolist() == [1, 1, 2, 4]
    assert ranks(low, high, [True, False, False, False]).tolist() == [4, 1, 1, 3]


def simulate(n_rows, n_seeds, of_rows, of_seeds, of_cells, n_runs=400, n_resamples=400):
    """Two methods that are equal over all rows and seeds, run again and again.

    Args:
        n_rows: asked of both, in all seeds.
        n_seeds: of each method.
        of_rows: standard deviation of what rows are like, the same for both methods.
        of_seeds: standard deviation of what seeds of a method are like.
        of_cells: standard deviation of a row's value in a seed of a method.

    Returns:
        How often the interval over both, and that over questions alone, holds the truth; how often
        the test at 5 % finds a difference.
    """
    rng = np.random.default_rng(0)
    covered, covered_over_rows, found = 0, 0, 0
    for _ in range(n_runs):
        values = rng.normal(0, of_rows, (n_rows, 1, 1)) + rng.normal(0, of_seeds, (2, n_seeds))
        values = values + rng.normal(0, of_cells, values.shape)
        drawn = rng.multinomial(n_rows, np.full(n_rows, 1 / n_rows), size=n_resamples) / n_rows
        resampled = drawn @ values.mean(axis=2)
        t = rng.standard_t(max(n_seeds - 1, 1), size=n_resamples)
        one, other = (Resampled(values[:, m].mean(axis=0), resampled[:, m]) for m in (0, 1))
        low, high = np.percentile(one.over_both(t), [2.5, 97.5])
        covered += low <= 0 <= high
        low, high = np.percentile(one.of_rows, [2.5, 97.5])
        covered_over_rows += low <= 0 <= high
        found += one.minus(other).p_value(t) <= 0.05
    return np.array([covered, covered_over_rows, found]) / n_runs


@pytest.mark.parametrize(
    ("n_rows", "n_seeds", "of_rows", "of_seeds", "of_cells"),
    [
        (40, 3, 0.1, 0.0, 0.05),  # only rows differ
        (20, 3, 0.0, 0.05, 0.02),  # only seeds differ
        (20, 2, 0.1, 0.05, 0.05),
        (20, 5, 0.1, 0.03, 0.05),
        (40, 1, 0.1, 0.0, 0.05),
    ],
)
def test_intervals_hold_the_truth_and_tests_find_no_more_than_they_may(
    n_rows, n_seeds, of_rows, of_seeds, of_cells
):
    covered, _, found = simulate(n_rows, n_seeds, of_rows, of_seeds, of_cells)
    assert covered >= 0.925  # 95 %, less two standard errors of 400 runs
    assert found <= 0.075


def test_questions_alone_promise_too_much_where_seeds_differ():
    covered, over_questions, _ = simulate(20, 3, 0.1, 0.1, 0.05)
    assert over_questions < 0.7
    assert covered >= 0.925
