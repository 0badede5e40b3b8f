"""Equal to the aggregates of TOFU's published per-row logs of Phi-1.5."""

import numpy as np
import pandas as pd
import pytest

from closer_look.metrics import (
    aggregate,
    forget_quality,
    row_metrics,
    summarise,
    truth_ratios,
)

MODELS = ["full", "retain90"]


def tables(sets):
    """Turn the logs into scores, generations and judgements (which the logs do not have)."""
    scores, generations = [], []
    for split, rows in sets.items():
        for row_id, row in enumerate(rows):
            key = {"split": split, "row_id": row_id}
            wrong = zip(row["perturbed_nll_sum"], row["perturbed_tokens"], strict=True)
            kinds = {
                "answer": (row["answer_nll_sum"], row["answer_tokens"]),
                "paraphrased": (row["paraphrased_nll_sum"], row["paraphrased_tokens"]),
                **{f"wrong_{number}": pair for number, pair in enumerate(wrong, start=1)},
            }
            scores += [
                key | {"kind": kind, "nll": nll, "n_tokens": n_tokens}
                for kind, (nll, n_tokens) in kinds.items()
            ]
            texts = {"generated": row["generated"], "reference": row["reference"]}
            generations.append(key | texts | {"task_id": 1, "token_entropy": 0.5})
    generations = pd.DataFrame(generations)
    judgements = generations[["split", "row_id"]].assign(cosine_similarity=0.5, entailment=True)
    return pd.DataFrame(scores), generations, judgements


@pytest.fixture(scope="module")
def rows(tofu_logs):
    return {model: row_metrics(*tables(tofu_logs["models"][model]["sets"])) for model in MODELS}


@pytest.mark.parametrize("model", MODELS)
def test_aggregates_of_every_set(tofu_logs, rows, model):
    table = aggregate(rows[model], n_resamples=10).set_index(["split", "metric"])["value"]
    expected = tofu_logs["models"][model]["expected"]
    for split in ("retain", "real_authors", "world_facts", "forget"):
        assert table[split, "rouge"] == pytest.approx(expected[split]["rouge_l_recall"], abs=1e-9)
        for metric in ("probability", "truth_ratio"):
            assert table[split, metric] == pytest.approx(expected[split][metric], abs=1e-6)
    assert 1 - table["forget", "truth_ratio"] == pytest.approx(
        expected["forget"]["truth_ratio_tofu"], abs=1e-6
    )


@pytest.mark.parametrize("model", MODELS)
def test_tofu_model_utility(tofu_logs, rows, model):
    table = summarise(rows[model], n_resamples=10).set_index("metric")
    line = table.loc["tofu_model_utility"]
    expected = tofu_logs["models"][model]["expected"]["tofu_model_utility"]
    assert line["value"] == pytest.approx(expected, abs=1e-6)
    assert line["reason"] == ""


def test_rouge_of_every_row(tofu_logs, rows):
    for model in MODELS:
        sets = tofu_logs["models"][model]["sets"]
        logged = [row["rouge_l_recall"] for logs in sets.values() for row in logs]
        np.testing.assert_allclose(rows[model]["rouge"], logged, atol=1e-9, rtol=0)


def test_forget_quality(tofu_logs, rows):
    r = {model: table.query("split == 'forget'")["truth_ratio"] for model, table in rows.items()}
    expected = tofu_logs["forget_quality"]["p_value"]
    assert forget_quality(r["full"], r["retain90"]) == pytest.approx(expected, rel=1e-6)
    # TOFU tests 1 / r: the distance between two distributions is the same read from the other end.
    inverse = forget_quality(1 / r["full"], 1 / r["retain90"])
    assert inverse == pytest.approx(expected, rel=1e-6)


def test_forget_quality_against_stored_scores(tofu_logs, rows):
    scores, _, _ = tables(tofu_logs["models"]["retain90"]["sets"])
    table = summarise(rows["full"], n_resamples=10, retain_only=truth_ratios(scores))
    line = table.set_index("metric").loc["forget_quality"]
    assert line["value"] == pytest.approx(tofu_logs["forget_quality"]["p_value"], rel=1e-6)
    assert (line["task_id"], line["reason"]) == (1, "")
