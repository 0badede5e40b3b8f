"""Records of metrics, and metrics of a user's own package."""

import sys

import numpy as np
import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.metrics import METRICS, Metric, aggregate, row_metrics, with_own_metrics

OWN = """
import numpy as np
from closer_look.metrics import Metric

def first_choice(rows):
    return np.array([np.mean(hits) for hits in rows.scores["token_hits"]])

def is_short(rows):
    return rows.generations["n_tokens"] < 3

SHORT = Metric("short", "Short", "whether it is short", is_short)
TAKEN = Metric("rouge", "Mine", "", first_choice)
NUMBER = 3
"""
SCORES = pd.DataFrame(
    {
        "split": "retain",
        "row_id": ["one", "two"],
        "kind": "answer",
        "nll": [1.0, 2.0],
        "n_tokens": [2, 4],
        "token_hits": [[True, True], [True, False, False, False]],
    }
)
GENERATIONS = SCORES[["split", "row_id", "n_tokens"]].assign(
    task_id=0, generated="a b", reference="a b", token_entropy=1.0
)
JUDGEMENTS = SCORES[["split", "row_id"]].assign(cosine_similarity=0.5, entailment=True)


@pytest.fixture
def own(tmp_path, monkeypatch):
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    yield lambda *names: with_own_metrics([f"own_metrics:{name}" for name in names])
    sys.modules.pop("own_metrics", None)


def test_every_metric_has_a_record():
    assert [*METRICS] == [
        *("rouge", "probability", "truth_ratio", "cosine_similarity", "entailment"),
        *("token_entropy", "exact_memorisation", "extraction_strength"),
    ]
    for metric in METRICS.values():
        assert metric.label and metric.sentence


def test_memorisation_leaves_out_the_end_of_the_answer():
    hits = [[True, False, True, True, False], [False, True]]
    rows = row_metrics(SCORES.assign(token_hits=hits), GENERATIONS, JUDGEMENTS)
    assert rows["exact_memorisation"].tolist() == [0.75, 0]
    assert rows["extraction_strength"].tolist() == [0.5, 0]


def test_scores_without_hits_have_no_memorisation():
    rows = row_metrics(SCORES.drop(columns="token_hits"), GENERATIONS, JUDGEMENTS)
    assert rows[["exact_memorisation", "extraction_strength"]].isna().all(axis=None)


def test_rows_that_no_model_has_seen_have_no_metrics():
    held_out = SCORES.assign(split="holdout")
    rows = row_metrics(pd.concat([SCORES, held_out]), GENERATIONS, JUDGEMENTS)
    pd.testing.assert_frame_equal(rows, row_metrics(SCORES, GENERATIONS, JUDGEMENTS))


def test_own_metrics_stand_behind_the_others(own):
    metrics = own("first_choice", "SHORT")
    assert list(metrics)[: len(METRICS)] == list(METRICS)
    assert [metric.label for metric in list(metrics.values())[-2:]] == ["First choice", "Short"]
    rows = row_metrics(SCORES, GENERATIONS, JUDGEMENTS, metrics)
    assert rows["first_choice"].tolist() == [1.0, 0.25]
    assert rows["short"].tolist() == [1.0, 0.0]
    table = aggregate(rows, n_resamples=10, metrics=metrics).set_index("metric")["value"]
    assert table["first_choice"] == 0.625
    assert table["rouge"] == 1


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("NUMBER", "is neither a Metric nor a function"),
        ("TAKEN", "there is a metric 'rouge' already"),
        ("nope", "metric 'own_metrics:nope' cannot be imported"),
    ],
)
def test_what_is_no_metric_is_refused(own, name, fault):
    with pytest.raises(ValueError, match=fault):
        own(name)


def test_a_metric_must_give_a_number_a_row():
    metrics = {"odd": Metric("odd", "Odd", "", lambda rows: np.ones(3))}
    with pytest.raises(InputError, match=r"'odd' gives values of shape \(3,\) for 2 rows"):
        row_metrics(SCORES, GENERATIONS, JUDGEMENTS, metrics)


def test_an_aggregate_must_lie_between_0_and_1():
    metrics = {"long": Metric("long", "Long", "", lambda rows: rows.generations["n_tokens"])}
    rows = row_metrics(SCORES, GENERATIONS, JUDGEMENTS, metrics)
    with pytest.raises(InputError, match="'long' is 3 over the rows of retain"):
        aggregate(rows, n_resamples=10, metrics=metrics)
