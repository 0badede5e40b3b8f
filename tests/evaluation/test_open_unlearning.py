"""Numbers in the format of OpenUnlearning become tables of this project."""

import json

import numpy as np
import pytest
from scipy.stats import hmean

from closer_look.errors import InputError
from closer_look.evaluation.open_unlearning import READ, ROWS, SUMMARY, read_evaluation

RATIOS = [0.5, 2.0, 0.8]  # of wrong to right answers, as published
OF_FORGET = np.mean([0.5, 0.5, 0.8])
OF_RETAIN = np.mean([0.5, 0.0, 0.2])


def a_metric(values, key, whole):
    rows = {str(number): {key: value} for number, value in enumerate(values)}
    return {"agg_value": whole, "value_by_index": rows}


@pytest.fixture
def published():
    """A whole evaluation of three rows a set, as OpenUnlearning writes it."""
    made = {}
    for name, (split, metric, key) in READ.items():
        values = RATIOS if metric == "truth_ratio" else [0.2, 0.4, 0.6]
        whole = np.mean(values)
        if metric == "truth_ratio":
            whole = OF_FORGET if split == "forget" else OF_RETAIN
        made[name] = a_metric(values, key, whole)
    utility = [one["agg_value"] for name, one in made.items() if READ[name][0] != "forget"]
    made["model_utility"] = {"agg_value": hmean(utility)}
    made["forget_quality"] = {"agg_value": 0.25}
    made["mia_min_k"] = {"agg_value": 0.5, "auc": 0.5, "forget": {}, "holdout": {}}
    return made


@pytest.fixture
def read(tmp_path):
    """Write an evaluation, and read it."""

    def read(found, name=ROWS):
        text = found if isinstance(found, str) else json.dumps(found)
        (tmp_path / name).write_text(text, encoding="utf-8")
        return read_evaluation(tmp_path, task_id=2, n_resamples=50, seed=1)

    return read


def value(table, **key):
    for column, wanted in key.items():
        table = table[table[column] == wanted]
    (line,) = table.itertuples()
    return line


def test_metrics_of_rows_are_those_that_are_defined_alike(read, published):
    metrics, summary = read(published)
    for name, (split, metric, _) in READ.items():
        whole = published[name]["agg_value"]
        expected = 1 - whole if (split, metric) == ("forget", "truth_ratio") else whole
        line = value(metrics, split=split, metric=metric)
        assert line.value == pytest.approx(expected)
        assert line.ci_low <= expected <= line.ci_high
        assert line.task_id == (2 if split == "forget" else 0)
        assert line.n_rows == 3
    utility = value(summary, metric="tofu_model_utility")
    assert utility.value == pytest.approx(published["model_utility"]["agg_value"])
    assert utility.reason == ""
    efficacy = value(summary, metric="forget_efficacy", task_id=2)
    assert efficacy.value == pytest.approx(1 - np.mean([0.4, 0.4, 1 - OF_FORGET]))
    assert efficacy.terms == "rouge, probability, truth_ratio of forget"
    assert "holds 3 of 5 terms" in efficacy.reason
    assert value(summary, metric="forget_quality").value == 0.25


def test_a_summary_alone_gives_the_same_values_without_intervals(tmp_path, read, published):
    metrics, summary = read(published)
    (tmp_path / ROWS).unlink()
    values = {name: one["agg_value"] for name, one in published.items()}
    metrics_of_whole, summary_of_whole = read(values, SUMMARY)
    assert metrics_of_whole["value"].tolist() == pytest.approx(metrics["value"].tolist())
    expected = pytest.approx(summary["value"].tolist(), nan_ok=True)
    assert summary_of_whole["value"].tolist() == expected
    assert metrics_of_whole["ci_low"].isna().all()
    assert summary_of_whole["ci_high"].isna().all()


def test_a_row_without_a_value_is_left_out(read, published):
    published["exact_memorization"]["value_by_index"]["0"]["score"] = None
    metrics, _ = read(published)
    line = value(metrics, split="forget", metric="exact_memorisation")
    assert (line.value, line.n_rows) == (pytest.approx(0.5), 2)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("{", r"TOFU_EVAL\.json is not JSON"),
        ([1], "must map names of metrics"),
        ({"forget_knowmem_ROUGE": {"agg_value": 1}}, "holds none of forget_Q_A_ROUGE"),
        ({"forget_Q_A_Prob": {"agg_value": 1}}, "forget_Q_A_Prob needs value_by_index with 'prob'"),
        ({"forget_Q_A_Prob": 0.5}, "forget_Q_A_Prob needs value_by_index"),
        ({"forget_Q_A_Prob": {"value_by_index": {"0": {"prob": "x"}}}}, "needs value_by_index"),
    ],
)
def test_another_format_is_named_in_a_line(read, found, message):
    with pytest.raises(InputError, match=message):
        read(found)


def test_a_summary_of_words_is_named(read):
    with pytest.raises(InputError, match="forget_Q_A_Prob must be a number"):
        read({"forget_Q_A_Prob": "much"}, SUMMARY)


def test_a_folder_without_an_evaluation_is_named(tmp_path):
    with pytest.raises(InputError, match=r"holds neither TOFU_EVAL\.json nor TOFU_SUMMARY\.json"):
        read_evaluation(tmp_path, 1, 10, 1)
