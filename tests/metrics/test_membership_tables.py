"""Tables of membership inference, with numbers worked out by hand, and who is told apart."""

import numpy as np
import pandas as pd
import pytest

from closer_look.metrics import (
    NO_RETAIN_ONLY_MODEL,
    membership_scores,
    membership_summary,
    min_k,
    min_k_plus_plus,
)
from closer_look.metrics.membership_tables import (
    ALL_TOLD,
    ITS_OWN_REFERENCE,
    NO_FORGET_ROWS,
    NO_HOLDOUT,
    NO_SCORES_OF_ROWS,
    SCORES,
    K,
)

ROWS = pd.DataFrame(
    {
        "split": ["forget", "forget", "holdout"],
        "row_id": ["a", "b", "c"],
        "task_id": [1, 2, 5],
        "gold_answer": ["Ilse", "Oban", "Eger"],
    }
)
LISTS = ["token_log_probabilities", "token_means", "token_variances"]


def scored(*nll, split_of=ROWS, end=-100.0):
    """Score answers of three word pieces and an end, each row's nll shared out among the three."""
    of_tokens = [[-value / 3] * 3 + [end] for value in nll]
    return split_of[["split", "row_id"]].assign(
        kind="answer",
        nll=nll,
        n_tokens=4,
        token_log_probabilities=of_tokens,
        token_means=[[-2.0] * 4] * len(nll),
        token_variances=[[4.0] * 4] * len(nll),
    )


def test_scores_of_every_row():
    table = membership_scores(scored(3, 6, 12), ROWS, scored(4, 2, 12))
    assert list(table) == ["split", "task_id", "row_id", *SCORES]
    assert table[["split", "task_id", "row_id"]].equals(ROWS[["split", "task_id", "row_id"]])
    np.testing.assert_allclose(table["loss"], [0.75, 1.5, 3])  # the end counts
    np.testing.assert_allclose(table["zlib"], table["loss"] / 12)  # 4 letters in 12 bytes
    np.testing.assert_allclose(table["reference"], [-0.25, 1, 0])


def test_scores_of_tokens_leave_out_the_end_of_the_answer():
    table = membership_scores(scored(3, 6, 12), ROWS)
    np.testing.assert_allclose(table["min_k"], [1, 2, 4])
    np.testing.assert_allclose(table["min_k_plus_plus"], [-0.5, 0, 1])  # (log p + 2) / 2


def test_scores_are_those_of_the_functions():
    scores = scored(3, 6, 12)
    scores["token_log_probabilities"] = [[-1.0, -2.0, -0.5, -9.0]] * 3
    table = membership_scores(scores, ROWS)
    assert table["min_k"][0] == min_k([-1.0, -2.0, -0.5], K)
    assert table["min_k_plus_plus"][0] == min_k_plus_plus([-1, -2, -0.5], [-2] * 3, [4] * 3, K)


def test_other_answers_and_other_rows_do_no_harm():
    scores = scored(3, 6, 12)
    others = scores.assign(kind="wrong_1", nll=99.0)
    retained = scores.assign(split="retain", nll=99.0)
    table = membership_scores(pd.concat([others, scores, retained]), ROWS)
    pd.testing.assert_frame_equal(table, membership_scores(scores, ROWS))


def test_stored_scores_without_lists_have_the_scores_of_sums():
    table = membership_scores(scored(3, 6, 12).drop(columns=LISTS), ROWS)
    assert table["loss"].notna().all()
    assert table[["min_k", "min_k_plus_plus"]].isna().all(axis=None)


def test_each_task_and_all_together_are_told_from_the_holdout_rows():
    table = membership_summary(membership_scores(scored(3, 15, 12), ROWS), n_resamples=20)
    loss = table[table["score"] == "loss"].set_index("task_id")
    assert loss["auc"].to_dict() == {0: 0.5, 1: 1, 2: 0}
    assert loss["n_forget"].to_dict() == {0: 2, 1: 1, 2: 1}
    assert (loss["n_holdout"] == 1).all()
    assert (loss["ci_low"] <= loss["auc"]).all()
    assert (loss["ci_high"] >= loss["auc"]).all()
    assert set(table["score"]) == set(SCORES)


def test_privleak_compares_with_the_retain_only_model():
    # The retain-only model finds one of two forgotten rows likelier than the holdout row: 0.5.
    of_model = membership_scores(scored(3, 6, 12), ROWS)
    of_retain_only = membership_scores(scored(3, 15, 12), ROWS)
    table = membership_summary(of_model, of_retain_only, n_resamples=20)
    line = table[(table["score"] == "loss") & (table["task_id"] == 0)].iloc[0]
    assert (line["auc"], line["privleak"], line["reason"]) == (1, -100, "")


def reasons(table):
    return table[table["task_id"] == 0].set_index("score")["reason"].to_dict()


def test_without_a_retain_only_model_the_table_says_so():
    table = membership_summary(membership_scores(scored(3, 6, 12), ROWS), n_resamples=20)
    assert set(table["reason"]) == {NO_RETAIN_ONLY_MODEL}
    assert table.loc[table["score"] == "reference", "auc"].isna().all()
    assert table.loc[table["score"] != "reference", "auc"].notna().all()


def test_with_a_retain_only_model_the_reference_has_no_privleak():
    given = scored(3, 15, 12)
    of_model, of_retain_only = membership_scores(given, ROWS, given), membership_scores(given, ROWS)
    found = reasons(membership_summary(of_model, of_retain_only, n_resamples=20))
    assert found == dict.fromkeys(SCORES, "") | {"reference": ITS_OWN_REFERENCE}


@pytest.mark.parametrize(("split", "reason"), [("holdout", NO_HOLDOUT), ("forget", NO_FORGET_ROWS)])
def test_without_one_of_the_two_sets_nothing_is_told(split, reason):
    rows = ROWS[ROWS["split"] != split]
    table = membership_summary(membership_scores(scored(3, 6, 12), rows), n_resamples=20)
    assert reasons(table) == dict.fromkeys(SCORES, reason)
    assert table[["auc", "ci_low", "ci_high", "privleak"]].isna().all(axis=None)


def test_without_any_row_nothing_is_told():
    table = membership_summary(membership_scores(scored(3, 6, 12), ROWS.iloc[:0]), n_resamples=20)
    assert reasons(table) == dict.fromkeys(SCORES, NO_FORGET_ROWS)


def test_stored_scores_of_other_rows_are_no_comparison():
    given = scored(3, 15, 12)
    forget = given[given["split"] == "forget"]
    of_retain_only = membership_scores(forget, ROWS)
    table = membership_summary(membership_scores(given, ROWS, forget), of_retain_only, 20)
    assert reasons(table) == dict.fromkeys(SCORES, NO_SCORES_OF_ROWS)
    assert table.loc[table["score"] == "loss", "auc"].notna().all()


def test_a_retain_only_model_that_tells_all_rows_is_no_comparison():
    given = membership_scores(scored(3, 6, 12), ROWS)
    assert reasons(membership_summary(given, given, n_resamples=20))["loss"] == ALL_TOLD
