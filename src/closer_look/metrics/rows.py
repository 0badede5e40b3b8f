"""Tables of row metrics, computed from scores, generations and judgements."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from closer_look.errors import InputError
from closer_look.metrics.records import METRICS, Metric, Rows, truth_ratio_of_rows

KEY = ["split", "row_id"]
HOLDOUT = "holdout"
"""Split of rows that no model has seen: they are scored, to compare with, and not asked."""


def row_metrics(
    scores: pd.DataFrame,
    generations: pd.DataFrame,
    judgements: pd.DataFrame,
    metrics: Mapping[str, Metric] = METRICS,
) -> pd.DataFrame:
    """Compute every metric of every row (arXiv 2410.08109, section 3, and the published code).

    * ``probability``: among the wrong options on real authors and world facts, plain elsewhere.
    * ``truth_ratio``: r, not yet aggregated, as in :func:`truth_ratios`.
    * ``cosine_similarity``: negative values become 0.
    * ``entailment``: 1 or 0; always 0 below a ROUGE-L recall of 0.1.

    Args:
        scores: columns split, row_id, kind (answer, paraphrased, wrong_1 ... wrong_k; others are
            ignored), nll (summed, nats), n_tokens, token_hits; the split ``HOLDOUT`` is ignored.
        generations: columns split, row_id, task_id, generated, reference, token_entropy.
        judgements: columns split, row_id, cosine_similarity, entailment (bool).
        metrics: name -> record.

    Returns:
        A line for each generation, in their order: split, task_id, row_id and the metrics.

    Raises:
        ValueError: the three tables do not hold the same rows; the message names the first.
        InputError: a metric does not give one number per row.
    """
    scores = scores[scores["split"] != HOLDOUT]
    index = pd.MultiIndex.from_frame(generations[KEY])
    answered = pd.MultiIndex.from_frame(scores.loc[scores["kind"] == "answer", KEY])
    judged = pd.MultiIndex.from_frame(judgements[KEY])
    _require(index, answered, "score of its answer")
    _require(answered, index, "generation")
    _require(index, judged, "judgement")
    _require(judged, index, "generation")

    of_answers = scores[scores["kind"] == "answer"].set_index(KEY)
    nll, n_tokens = _by_kind(scores)
    rows = Rows(
        generations.reset_index(drop=True),
        *(
            table.reindex(index).reset_index(drop=True)
            for table in (judgements.set_index(KEY), of_answers, nll, n_tokens)
        ),
    )
    values = {name: _of_rows(metric, rows) for name, metric in metrics.items()}
    return rows.generations[["split", "task_id", "row_id"]].assign(**values)


def truth_ratios(scores: pd.DataFrame) -> pd.DataFrame:
    """Compute the truth ratio r of every row, not yet aggregated (arXiv 2401.06121, section 2.2).

    The true answer is the paraphrased one if there is one, else the answer itself.

    Args:
        scores: columns split, row_id, kind (answer, paraphrased, wrong_1 ... wrong_k; others are
            ignored), nll (summed, nats), n_tokens.

    Returns:
        Columns split, row_id, truth_ratio, a line per row, sorted; NaN without wrong answers.
    """
    nll, n_tokens = _by_kind(scores)
    nothing = pd.DataFrame(index=nll.index)
    rows = Rows(nothing, nothing, nothing, nll, n_tokens)
    return nll.index.to_frame(index=False).assign(truth_ratio=truth_ratio_of_rows(rows))


def _of_rows(metric: Metric, rows: Rows) -> np.ndarray:
    values = np.asarray(metric.of_rows(rows), dtype=float)
    n_rows = len(rows.generations)
    if values.shape != (n_rows,):
        raise InputError(
            f"metric '{metric.name}' gives values of shape {values.shape} for {n_rows} rows; "
            f"it must give one number per row"
        )
    return values


def _by_kind(scores: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Pivot scores into nll and n_tokens, with a line per row and a column per kind of answer."""
    wide = scores.pivot(index=KEY, columns="kind", values=["nll", "n_tokens"])
    wrong = [kind for kind in wide["nll"] if kind.startswith("wrong_")]
    kinds = ["answer", "paraphrased", *wrong]
    return wide["nll"].reindex(columns=kinds), wide["n_tokens"].reindex(columns=kinds)


def _require(rows: pd.MultiIndex, others: pd.MultiIndex, what: str) -> None:
    missing = rows[~rows.isin(others)]
    if len(missing):
        split, row_id = missing[0]
        raise ValueError(f"row {row_id} of split {split} has no {what}")
