"""Tables of membership inference: scores of rows, and whether they tell the forgotten ones."""

from __future__ import annotations

import numpy as np
import pandas as pd

from closer_look.metrics.membership import (
    loss_score,
    membership_auc,
    membership_auc_interval,
    min_k,
    min_k_plus_plus,
    privleak,
    reference_score,
    zlib_score,
)
from closer_look.metrics.memorisation import without_end
from closer_look.metrics.rows import HOLDOUT, KEY
from closer_look.metrics.summaries import NO_RETAIN_ONLY_MODEL

K = 0.4  # share of the tokens that count, as published with PrivLeak (arXiv 2407.06460)
SCORES = ("loss", "zlib", "reference", "min_k", "min_k_plus_plus")

NO_HOLDOUT = (
    "there are no rows that no model of the run has seen; it takes a target model that the run "
    "fine-tunes, and tasks after the run's with more rows than finetuning.declined_questions"
)
NO_FORGET_ROWS = "no row to forget was evaluated"
NO_SCORES_OF_ROWS = "the scores of the retain-only model do not hold what it takes of these rows"
ITS_OWN_REFERENCE = "the retain-only model is what it compares with"
ALL_TOLD = "an AUC of 1 of the retain-only model leaves nothing to compare with"


def membership_scores(
    scores: pd.DataFrame, rows: pd.DataFrame, retain_only: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Compute the membership scores of rows, from how likely a model finds their gold answers.

    ``min_k`` and ``min_k_plus_plus`` leave out the token that ends the answer, the others count it,
    as published (arXiv 2506.12618).

    Args:
        scores: columns split, row_id, kind, nll (summed, nats), n_tokens, and the lists
            token_log_probabilities, token_means and token_variances; further rows do no harm.
        rows: split, task_id, row_id and gold_answer of the rows to forget and of the holdout rows.
        retain_only: split, row_id, kind and nll, of a model that was never trained on the rows to
            forget.

    Returns:
        A line for each row that has a score: split, task_id, row_id and ``SCORES``, higher for less
        likely answers; ``reference`` is NaN without a retain-only model.
    """
    answers = scores[scores["kind"] == "answer"]
    table = rows[[*KEY, "task_id", "gold_answer"]].merge(answers, on=KEY)
    reference = pd.DataFrame(columns=[*KEY, "kind", "nll"]) if retain_only is None else retain_only
    reference = reference.loc[reference["kind"] == "answer", [*KEY, "nll"]]
    reference_nll = table[KEY].merge(reference, how="left", on=KEY)["nll"].astype(float)
    nll, n_tokens = table["nll"], table["n_tokens"]
    lists = ["token_log_probabilities", "token_means", "token_variances"]
    of_tokens = [
        [without_end(values) for values in of_row]
        for of_row in table.reindex(columns=lists).itertuples(index=False)
    ]
    return table[["split", "task_id", "row_id"]].assign(
        loss=loss_score(nll, n_tokens),
        zlib=zlib_score(nll, n_tokens, table["gold_answer"]),
        reference=reference_score(nll, n_tokens, reference_nll),
        min_k=[min_k(log_probabilities, K) for log_probabilities, *_ in of_tokens],
        min_k_plus_plus=[min_k_plus_plus(*values, K) for values in of_tokens],
    )


def membership_summary(
    scores: pd.DataFrame,
    retain_only: pd.DataFrame | None = None,
    n_resamples: int = 1000,
    seed: int = 1001,
) -> pd.DataFrame:
    """Compute how well each score tells forgotten rows from holdout rows, which no model has seen.

    Args:
        scores: from :func:`membership_scores`.
        retain_only: the same of the retain-only model.
        n_resamples: number of bootstrap resamples of the rows within each of the two sets.
        seed: seed of the resampling; the same seed gives the same intervals.

    Returns:
        A line per score and task, and for all tasks together (task 0): score, task_id, auc, ci_low,
        ci_high, privleak, n_forget, n_holdout, reason. ``reason`` says what is missing, and why; ""
        if nothing is.
    """
    forget = scores[scores["split"] == "forget"]
    tasks = {0: forget["row_id"]} | dict(list(forget.groupby("task_id")["row_id"]))
    lines = []
    for name in SCORES:
        for task_id, row_ids in tasks.items():
            values = _forget_and_holdout(name, scores, row_ids)
            line = {"score": name, "task_id": task_id, "auc": np.nan, "ci_low": np.nan}
            line |= {"ci_high": np.nan, "privleak": np.nan}
            line |= {"n_forget": len(values[0]), "n_holdout": len(values[1])}
            line["reason"] = _missing(name, scores, retain_only, values)
            if not line["reason"]:
                line["auc"] = membership_auc(*values)
                interval = membership_auc_interval(*values, n_resamples, seed)
                line["ci_low"], line["ci_high"] = interval
                of_retain_only = _forget_and_holdout(name, retain_only, row_ids)
                line |= _privleak(name, line["auc"], retain_only, of_retain_only)
            lines.append(line)
    return pd.DataFrame(lines)


def _forget_and_holdout(
    name: str, scores: pd.DataFrame | None, row_ids: pd.Series
) -> tuple[pd.Series, pd.Series]:
    """Return a score of these rows to forget, and of the holdout rows."""
    if scores is None:
        return pd.Series(dtype=float), pd.Series(dtype=float)
    is_forget = (scores["split"] == "forget") & scores["row_id"].isin(row_ids)
    sets = (is_forget, scores["split"] == HOLDOUT)
    return tuple(scores.loc[of_set, name].dropna() for of_set in sets)


def _missing(
    name: str,
    scores: pd.DataFrame,
    retain_only: pd.DataFrame | None,
    values: tuple[pd.Series, pd.Series],
) -> str:
    """Say why there is no AUC; "" if there is one."""
    for split, reason in (("forget", NO_FORGET_ROWS), (HOLDOUT, NO_HOLDOUT)):
        if not (scores["split"] == split).any():
            return reason
    if all(map(len, values)):
        return ""
    return NO_RETAIN_ONLY_MODEL if retain_only is None else NO_SCORES_OF_ROWS


def _privleak(
    name: str,
    auc: float,
    retain_only: pd.DataFrame | None,
    of_retain_only: tuple[pd.Series, pd.Series],
) -> dict[str, float | str]:
    """Compute privleak, or the reason that there is none."""
    if retain_only is None:
        return {"reason": NO_RETAIN_ONLY_MODEL}
    if name == "reference":
        return {"reason": ITS_OWN_REFERENCE}
    if not all(map(len, of_retain_only)):
        return {"reason": NO_SCORES_OF_ROWS}
    retain_auc = membership_auc(*of_retain_only)
    return {"reason": ALL_TOLD} if retain_auc == 1 else {"privleak": privleak(auc, retain_auc)}
