"""Tables, with numbers worked out by hand."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from closer_look.metrics import (
    METRICS,
    NO_RETAIN_ONLY_MODEL,
    Metric,
    aggregate,
    forget_quality,
    model_utility,
    row_metrics,
    summarise,
    truth_ratios,
)

LOG2 = np.log(2)
METRIC_COLUMNS = list(METRICS)
NO_TOFU_SET = (
    "TOFU's utility is over retain, real_authors and world_facts; none of them was evaluated"
)


def score(split, row_id, kind, nll, n_tokens=1):
    return {"split": split, "row_id": row_id, "kind": kind, "nll": nll, "n_tokens": n_tokens}


@pytest.fixture
def tables():
    """One row of the forget set, one of the retain set, one of the world facts."""
    scores = pd.DataFrame(
        [
            score("forget", 7, "answer", 4 * LOG2, 2),  # p = 1/4
            score("forget", 7, "paraphrased", 2 * LOG2, 2),  # log 2 a token
            score("forget", 7, "wrong_1", 3 * LOG2),
            score("forget", 7, "wrong_2", LOG2),  # mean 2 log 2: r = 2
            score("forget", 7, "refusal", 50.0),  # of no metric
            score("retain", 7, "answer", LOG2),  # p = 1/2; no wrong answers
            score("world_facts", 1, "answer", LOG2),  # p = 1/2 among 1/2 and 1/4: 2/3
            score("world_facts", 1, "wrong_1", 2 * LOG2),  # r = 2, of the answer itself
        ]
    ).assign(token_nll=[[]] * 8)
    generations = pd.DataFrame(
        {
            "split": ["forget", "retain", "world_facts"],
            "row_id": [7, 7, 1],
            "task_id": [2, 0, 0],
            "question": ["?"] * 3,
            "reference": ["Lima in Peru", "one two three four", "a b c d e f g h i j k"],
            "generated": ["Lima", "one two", "k"],  # recall 1/3, 1/2, 1/11
            "token_entropy": [0.9, 0.8, 0.0],
            "n_tokens": [3, 2, 1],
            "stopped_by": ["eos"] * 3,
        },
        index=[10, 20, 30],
    )
    judgements = pd.DataFrame(  # in another order
        {
            "split": ["world_facts", "forget", "retain"],
            "row_id": [1, 7, 7],
            "cosine_similarity": [-0.25, 0.75, 1.0000001],
            "entailment": [True, True, False],
        }
    )
    return {"scores": scores, "generations": generations, "judgements": judgements}


def test_row_metrics(tables):
    table = row_metrics(**tables)
    assert list(table) == ["split", "task_id", "row_id", *METRIC_COLUMNS]
    assert table["split"].tolist() == ["forget", "retain", "world_facts"]
    assert table["task_id"].tolist() == [2, 0, 0]
    assert table["row_id"].tolist() == [7, 7, 1]
    assert table["rouge"].tolist() == pytest.approx([1 / 3, 1 / 2, 1 / 11])
    assert table["probability"].tolist() == pytest.approx([1 / 4, 1 / 2, 2 / 3])
    assert table["truth_ratio"].tolist() == pytest.approx([2, np.nan, 2], nan_ok=True)
    assert table["token_entropy"].tolist() == [0.9, 0.8, 0]
    assert table["cosine_similarity"].tolist() == [0.75, 1, 0]  # clipped to [0, 1]
    assert table["entailment"].tolist() == [1, 0, 0]  # world facts: ROUGE 1/11 < 0.1
    assert all(table[column].dtype == float for column in METRIC_COLUMNS)


def test_truth_ratios_need_nothing_but_scores(tables):
    table = truth_ratios(tables["scores"])
    assert list(table) == ["split", "row_id", "truth_ratio"]
    assert table.set_index(["split", "row_id"])["truth_ratio"].to_dict() == pytest.approx(
        {("forget", 7): 2, ("retain", 7): np.nan, ("world_facts", 1): 2}, nan_ok=True
    )


def test_truth_ratios_take_the_answer_where_none_is_paraphrased(tables):
    scores = tables["scores"].query("kind != 'paraphrased'")
    # Forget: 2 log 2 a token of the answer as of the wrong ones.
    assert truth_ratios(scores)["truth_ratio"].tolist()[0] == pytest.approx(1)


def test_row_metrics_leave_their_inputs_alone(tables):
    before = {name: table.copy(deep=True) for name, table in tables.items()}
    row_metrics(**tables)
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, before[name])


def test_row_metrics_do_not_depend_on_the_order_of_the_scores(tables):
    backwards = tables | {"scores": tables["scores"][::-1]}
    pd.testing.assert_frame_equal(row_metrics(**backwards), row_metrics(**tables))


def test_real_authors_have_their_probability_among_the_wrong_options(tables):
    renamed = {
        name: table.assign(split=table["split"].replace("world_facts", "real_authors"))
        for name, table in tables.items()
    }
    assert row_metrics(**renamed)["probability"].iloc[2] == pytest.approx(2 / 3)


def test_multiple_choice_without_wrong_options_has_no_probability(tables):
    scores = tables["scores"]
    answers_only = scores[scores["kind"] == "answer"]
    table = row_metrics(**tables | {"scores": answers_only})
    assert table["probability"].tolist() == pytest.approx([1 / 4, 1 / 2, np.nan], nan_ok=True)
    assert table["truth_ratio"].isna().all()


def test_judgements_that_a_judge_did_not_give_stay_missing(tables):
    missing = tables["judgements"].assign(cosine_similarity=np.nan, entailment=None)
    table = row_metrics(**tables | {"judgements": missing})
    assert table[["cosine_similarity", "entailment"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("shortened", "message"),
    [
        ("scores", "row 7 of split forget has no score of its answer"),
        ("generations", "row 7 of split forget has no generation"),
        ("judgements", "row 7 of split forget has no judgement"),
    ],
)
def test_row_that_a_table_lacks_is_named(tables, shortened, message):
    table = tables[shortened]
    with pytest.raises(ValueError, match=message):
        row_metrics(**tables | {shortened: table[table["split"] != "forget"]})


def test_judgement_of_a_row_that_was_not_generated_is_named(tables):
    odd = pd.concat([tables["judgements"], tables["judgements"].iloc[:1].assign(row_id=99)])
    with pytest.raises(ValueError, match="row 99 of split world_facts has no generation"):
        row_metrics(**tables | {"judgements": odd})


def test_aggregate_has_a_line_for_each_metric_of_each_split_and_forget_task(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 2), ("forget", 2, 3), ("retain", 0, 4))
    rows.loc[rows["task_id"] == 2, "rouge"] = [0.1, 0.2, 0.6]
    table = aggregate(rows, n_resamples=20)
    assert list(table) == ["split", "task_id", "metric", "value", "ci_low", "ci_high", "n_rows"]
    assert list(zip(table["split"], table["task_id"], table["n_rows"], strict=True)) == (
        [("forget", 1, 2)] * len(METRICS)
        + [("forget", 2, 3)] * len(METRICS)
        + [("retain", 0, 4)] * len(METRICS)
    )
    assert table["metric"].tolist() == METRIC_COLUMNS * 3
    value = table.set_index(["split", "task_id", "metric"])["value"]
    assert value["forget", 2, "rouge"] == pytest.approx(0.3)
    assert value["forget", 1, "rouge"] == 0.5


def test_aggregate_takes_the_truth_ratio_of_the_split(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 3), ("neighbour", 0, 3), truth_ratio=0.25)
    table = aggregate(rows, n_resamples=20).set_index(["split", "metric"])["value"]
    assert table["forget", "truth_ratio"] == pytest.approx(0.75)  # 1 - min(r, 1/r)
    assert table["neighbour", "truth_ratio"] == 0  # max(0, 1 - 4)


def test_aggregate_puts_all_tasks_of_a_retain_set_together(make_row_metrics):
    # In a continual run, rows that later tasks will forget are still rows to retain.
    rows = make_row_metrics(("retain", 0, 2), ("retain", 4, 3))
    table = aggregate(rows, n_resamples=20)
    assert set(table["task_id"]) == {0}
    assert set(table["n_rows"]) == {5}


def test_interval_of_equal_values_is_that_value(make_row_metrics):
    table = aggregate(make_row_metrics(("retain", 0, 7), value=0.1))
    assert (table["ci_low"] == table["value"]).all()
    assert (table["ci_high"] == table["value"]).all()


def test_one_row_has_no_interval(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 1), ("retain", 0, 7))
    table = aggregate(rows, n_resamples=20).set_index("split")
    assert table.loc["forget", "value"].notna().all()
    assert table.loc["forget", ["ci_low", "ci_high"]].isna().all(axis=None)
    assert table.loc["retain", ["ci_low", "ci_high"]].notna().all(axis=None)
    numbers = summarise(rows, n_resamples=20).set_index("metric")
    assert np.isnan(numbers.loc["forget_efficacy", "ci_low"])
    assert not np.isnan(numbers.loc["model_utility", "ci_low"])


def test_interval_is_that_of_the_mean(make_row_metrics):
    # 400 coin throws: the mean's standard deviation is 0.5 / sqrt(400) = 0.025, times 1.96.
    rows = make_row_metrics(("retain", 0, 400))
    rows["rouge"] = np.arange(400) % 2
    line = aggregate(rows).set_index("metric").loc["rouge"]
    assert line["value"] == 0.5
    assert line["ci_low"] == pytest.approx(0.5 - 0.049, abs=0.006)
    assert line["ci_high"] == pytest.approx(0.5 + 0.049, abs=0.006)


def test_interval_covers_the_truth_about_as_often_as_it_says(make_row_metrics):
    rng = np.random.default_rng(1)
    rows = make_row_metrics(*[("forget", task, 60) for task in range(1, 201)])
    rows["rouge"] = rng.random(len(rows))
    table = aggregate(rows, n_resamples=200).query("metric == 'rouge'")
    covered = ((table["ci_low"] < 0.5) & (table["ci_high"] > 0.5)).mean()
    assert 0.9 <= covered <= 0.99


@pytest.mark.parametrize("function", [aggregate, summarise])
def test_intervals_are_those_of_the_seed(make_row_metrics, function):
    rows = make_row_metrics(("forget", 1, 9), ("retain", 0, 9))
    rows["rouge"] = np.linspace(0, 1, len(rows))
    run = partial(function, rows, n_resamples=50)
    pd.testing.assert_frame_equal(run(seed=5), run(seed=5))
    assert not run(seed=5).equals(run(seed=6))
    pd.testing.assert_frame_equal(run(), run(seed=1001))


def test_rows_without_a_value_are_left_out_and_a_metric_without_rows_is_absent(make_row_metrics):
    rows = make_row_metrics(("retain", 0, 4), ("world_facts", 0, 2))
    rows.loc[:2, "truth_ratio"] = [np.nan, np.nan, 4]  # retain: 4 and 2 are left
    rows.loc[4:, "truth_ratio"] = np.nan
    table = aggregate(rows, n_resamples=20).set_index(["split", "metric"])
    assert table.loc[("retain", "truth_ratio"), "n_rows"] == 2
    assert table.loc[("retain", "truth_ratio"), "value"] == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert ("world_facts", "truth_ratio") not in table.index
    assert ("world_facts", "rouge") in table.index


def test_tables_of_no_rows_have_their_columns(make_row_metrics):
    rows = make_row_metrics(("retain", 0, 1)).iloc[:0]
    assert list(aggregate(rows)) == [
        *("split", "task_id", "metric", "value", "ci_low", "ci_high", "n_rows")
    ]
    assert summarise(rows)["reason"].tolist() == ["no set to retain was evaluated", NO_TOFU_SET]


def test_summarise(make_row_metrics):
    # Retain sets: 5 values of 1/2 and TR = 1 - 1/4 = 3/4 each; harmonic mean 12 / (20 + 8/3).
    # Forget sets: 4 values of 1/2 and TR = 1 - 1/4 = 3/4: 1 - 2.75 / 5.
    rows = make_row_metrics(
        ("forget", 1, 3), ("forget", 3, 2), ("retain", 0, 2), ("neighbour", 0, 4), truth_ratio=4
    )
    table = summarise(rows, n_resamples=20)
    assert list(table) == [*("metric", "task_id", "value", "ci_low", "ci_high", "terms", "reason")]
    assert table["metric"].tolist() == (
        ["model_utility"]
        + ["forget_efficacy"] * 2
        + ["tofu_model_utility"]
        + ["forget_quality"] * 2
    )
    assert table["task_id"].tolist() == [0, 1, 3, 0, 1, 3]
    table = table.head(3)
    assert table["value"].tolist() == pytest.approx([12 / (20 + 8 / 3), 0.45, 0.45])
    assert table["ci_low"].tolist() == pytest.approx(table["value"].tolist())
    assert table["ci_high"].tolist() == pytest.approx(table["value"].tolist())
    assert table["reason"].tolist() == ["", "", ""]


def test_token_entropy_is_a_term_of_model_utility_and_not_of_forget_efficacy(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 3), ("retain", 0, 3)).assign(token_entropy=0.0)
    value = summarise(rows, n_resamples=20).set_index("metric")["value"]
    assert value[["model_utility", "forget_efficacy"]].tolist() == pytest.approx([0, 0.5])
    assert value["tofu_model_utility"] == pytest.approx(0.5)


def test_metric_added_to_the_table_is_no_term_of_the_published_summaries(
    make_row_metrics, monkeypatch
):
    rows = make_row_metrics(("forget", 1, 3), ("retain", 0, 3)).assign(length=0.25)
    before = summarise(rows, n_resamples=20)
    monkeypatch.setitem(METRICS, "length", Metric("length", "Length", "how long", len))
    pd.testing.assert_frame_equal(summarise(rows, n_resamples=20), before)
    table = aggregate(rows, n_resamples=20).set_index(["split", "metric"])
    assert table.loc[("forget", "length"), "value"] == 0.25


def test_summarise_resamples_the_metrics_of_a_row_together(make_row_metrics):
    # Where probability = 1 - rouge on each row, their mean is 1/2 in any resample of rows.
    rows = make_row_metrics(("forget", 1, 30))
    rows["rouge"] = np.linspace(0, 1, 30)
    rows["probability"] = 1 - rows["rouge"]
    efficacy = summarise(rows, n_resamples=100).iloc[1]
    assert efficacy["ci_low"] == pytest.approx(0.5)
    assert efficacy["ci_high"] == pytest.approx(0.5)


def test_summarise_says_which_terms_are_absent(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 2), ("retain", 0, 2), ("neighbour", 0, 2))
    rows.loc[rows["split"] != "neighbour", "truth_ratio"] = np.nan
    rows.loc[rows["split"] == "forget", "entailment"] = np.nan
    table = summarise(rows, n_resamples=20).head(2)
    assert table["value"].tolist() == pytest.approx([0.5, 0.5])
    assert table["reason"].tolist() == [
        "holds 11 of 12 terms; no row has truth_ratio of retain (it needs wrong answers)",
        "holds 3 of 5 terms; no row has truth_ratio of forget (it needs wrong answers); "
        "no row has entailment of forget (it needs a judge)",
    ]
    assert table["terms"].tolist() == [
        "rouge, probability, truth_ratio, cosine_similarity, entailment, token_entropy of "
        "neighbour; rouge, probability, cosine_similarity, entailment, token_entropy of retain",
        "rouge, probability, cosine_similarity of forget",
    ]


def test_splits_that_hold_the_same_terms_stand_together(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 2), ("retain", 0, 2), ("world_facts", 0, 2))
    table = summarise(rows, n_resamples=20, retain_only=rows).set_index("metric")["terms"]
    terms = "rouge, probability, truth_ratio, cosine_similarity, entailment"
    assert table.to_dict() == {
        "model_utility": f"{terms}, token_entropy of retain and world_facts",
        "forget_efficacy": f"{terms} of forget",
        "tofu_model_utility": "rouge, probability, truth_ratio of retain and world_facts",
        "forget_quality": "truth_ratio of forget",
    }


def test_multiple_choice_without_options_says_what_it_needs(make_row_metrics):
    rows = make_row_metrics(("world_facts", 0, 2)).assign(probability=np.nan)
    assert summarise(rows, n_resamples=20)["reason"][0] == (
        "holds 5 of 6 terms; no row has probability of world_facts "
        "(it needs wrong answers to choose among)"
    )


def test_summarise_says_which_terms_lack_rows(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 3), ("retain", 0, 2))
    rows.loc[0, "truth_ratio"] = np.nan
    assert summarise(rows, n_resamples=20)["reason"].tolist()[:2] == [
        "",
        "truth_ratio of forget from 2 of 3 rows (it needs wrong answers)",
    ]


def test_summarise_without_any_term_or_any_set_to_retain_has_no_value(make_row_metrics):
    rows = make_row_metrics(("forget", 1, 2))
    rows[METRIC_COLUMNS] = np.nan
    table = summarise(rows, n_resamples=20)
    assert table[["value", "ci_low", "ci_high"]].isna().all(axis=None)
    assert table["terms"].tolist() == [""] * 4
    assert table["reason"][0] == "no set to retain was evaluated"
    assert table["reason"][1].startswith("holds 0 of 5 terms; no row has rouge of forget; ")


class TestTofuModelUtility:
    def line(self, rows, **options):
        table = summarise(rows, **({"n_resamples": 20} | options)).set_index("metric")
        return table.loc["tofu_model_utility"]

    def test_is_the_harmonic_mean_of_three_metrics_on_three_sets(self, make_row_metrics):
        rows = make_row_metrics(
            ("retain", 0, 2), ("real_authors", 0, 3), ("world_facts", 0, 4), ("neighbour", 0, 5)
        )
        rows.loc[rows["split"] == "neighbour", "rouge"] = 0  # no set of TOFU's
        rows["token_entropy"] = rows["entailment"] = rows["cosine_similarity"] = 0
        rows.loc[rows["split"] == "retain", "truth_ratio"] = 5  # 1 - 1/5
        rows.loc[rows["split"] == "world_facts", "rouge"] = 0.25
        # Seven values of 1/2, one of 4/5, one of 1/4.
        line = self.line(rows)
        assert line["value"] == pytest.approx(9 / (7 * 2 + 5 / 4 + 4))
        assert (line["task_id"], line["reason"]) == (0, "")

    def test_interval_holds_the_value_and_comes_from_the_rows(self, make_row_metrics):
        rows = make_row_metrics(
            *[(split, 0, 50) for split in ("retain", "real_authors", "world_facts")]
        )
        rows["rouge"] = np.linspace(0.2, 1, len(rows))
        line = self.line(rows, n_resamples=200)
        assert line["ci_low"] < line["value"] < line["ci_high"]
        assert line["ci_high"] - line["ci_low"] < 0.1

    def test_says_which_sets_and_terms_it_lacks(self, make_row_metrics):
        rows = make_row_metrics(("retain", 0, 2), ("world_facts", 0, 2))
        assert self.line(rows)["reason"] == "no row of real_authors was evaluated"
        rows.loc[rows["split"] == "retain", "truth_ratio"] = np.nan
        line = self.line(rows)
        assert line["reason"] == (
            "holds 5 of 6 terms; no row has truth_ratio of retain (it needs wrong answers); "
            "no row of real_authors was evaluated"
        )
        assert line["value"] == pytest.approx(model_utility([0.5] * 5))

    def test_has_no_value_without_any_of_the_sets(self, make_row_metrics):
        line = self.line(make_row_metrics(("neighbour", 0, 2)))
        assert line[["value", "ci_low", "ci_high"]].isna().all()
        assert line["reason"] == NO_TOFU_SET


class TestForgetQuality:
    @pytest.fixture
    def rows(self, make_row_metrics):
        """Six rows of task 1, four of task 3, every r another; rows to retain have none."""
        rows = make_row_metrics(("forget", 1, 6), ("forget", 3, 4), ("retain", 0, 5))
        rows["truth_ratio"] = [*np.arange(1.0, 11.0), *[np.nan] * 5]
        return rows

    def retain_only(self, rows, r):
        """The same rows of another model, backwards, and one that nobody asked for."""
        table = rows[["split", "row_id"]].assign(truth_ratio=r)
        extra = pd.DataFrame([{"split": "forget", "row_id": "later", "truth_ratio": 1e9}])
        return pd.concat([extra, table[::-1]])

    def lines(self, rows, retain_only):
        table = summarise(rows, n_resamples=20, retain_only=retain_only)
        return table[table["metric"] == "forget_quality"].set_index("task_id")

    def test_compares_the_rows_of_each_task(self, rows):
        # Task 1: as the other model's; task 3: all of 4 + 4 rows apart, 2 of the C(8, 4) orders.
        other = rows["truth_ratio"].where(rows["task_id"] == 1, -rows["truth_ratio"])
        lines = self.lines(rows, self.retain_only(rows, other))
        assert lines["value"].to_dict() == pytest.approx({1: 1, 3: 2 / 70})
        assert lines["reason"].tolist() == ["", ""]

    def test_is_a_p_value_and_has_no_interval(self, rows):
        lines = self.lines(rows, self.retain_only(rows, rows["truth_ratio"]))
        assert lines[["ci_low", "ci_high"]].isna().all(axis=None)

    def test_says_which_rows_are_missing_and_compares_the_others(self, rows):
        other = self.retain_only(rows, rows["truth_ratio"] * 1.5)
        there = other[~other["row_id"].isin(["forget_1_0", "forget_1_5"])]
        rows.loc[1, "truth_ratio"] = np.nan
        lines = self.lines(rows, there)
        assert lines["reason"].to_dict() == {
            1: "truth_ratio of forget from 5 of 6 rows (it needs wrong answers); "
            "truth_ratio of the retain-only model from 4 of 6 rows",
            3: "",
        }
        # The questions that both models have: rows 2, 3 and 4.
        assert lines.loc[1, "value"] == forget_quality([3, 4, 5], [4.5, 6, 7.5])

    def test_has_no_value_where_the_models_share_no_row(self, rows):
        other = self.retain_only(rows, rows["truth_ratio"])
        lines = self.lines(rows, other[other["row_id"].str.contains("forget_3")])
        assert np.isnan(lines.loc[1, "value"])
        assert lines.loc[1, "reason"] == "truth_ratio of the retain-only model from 0 of 6 rows"
        assert lines.loc[3, "value"] == 1

    def test_has_no_value_without_a_retain_only_model(self, rows):
        lines = self.lines(rows, None)
        assert lines["value"].isna().all()
        assert lines["reason"].tolist() == [NO_RETAIN_ONLY_MODEL] * 2
        assert NO_RETAIN_ONLY_MODEL == "there are no scores of a retain-only model"

    def test_changes_no_other_line(self, rows):
        rows["rouge"] = np.linspace(0, 1, len(rows))
        other = self.retain_only(rows, rows["truth_ratio"])
        without, with_it = (
            summarise(rows, n_resamples=50, retain_only=table).query("metric != 'forget_quality'")
            for table in (None, other)
        )
        pd.testing.assert_frame_equal(without, with_it, check_exact=True)


def test_a_summary_that_is_added_moves_no_interval_of_the_others(make_row_metrics):
    # Reports of different versions are compared: these are the numbers of the first one.
    rows = make_row_metrics(("forget", 1, 9), ("forget", 2, 7), ("retain", 0, 11))
    rows["rouge"] = np.linspace(0, 1, len(rows)) ** 2
    lines = summarise(rows, n_resamples=100)[["value", "ci_low", "ci_high"]].head(3)
    assert lines.to_numpy().ravel().tolist() == pytest.approx(
        [
            *(0.521789433089086, 0.5118412622649199, 0.5319726834972046),
            *(0.5932938856015779, 0.5890368178829717, 0.5972452333990795),
            *(0.5562130177514792, 0.5464866863905326, 0.5657576077768385),
        ],
        rel=1e-12,
    )


def test_real_tables_go_all_the_way(tables):
    rows = row_metrics(**tables)
    table = summarise(rows, n_resamples=20).set_index("metric")
    # Forget: R 1/3, P 1/4, TR 1 - 1/2, CS 3/4, ES 1.
    expected = 1 - (1 / 3 + 1 / 4 + 1 / 2 + 3 / 4 + 1) / 5
    assert table.loc["forget_efficacy", "value"] == pytest.approx(expected)
    assert table.loc["forget_efficacy", "task_id"] == 2
    assert table.loc["model_utility", "value"] == 0  # nothing of the world facts is entailed
    assert table.loc["model_utility", "reason"] == (
        "holds 11 of 12 terms; no row has truth_ratio of retain (it needs wrong answers)"
    )
