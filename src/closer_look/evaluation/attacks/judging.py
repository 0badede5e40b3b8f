"""Judgement of attacks: what each of them got back of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from closer_look.metrics import rouge_l_recall
from closer_look.metrics.records import ENTAILMENT_MIN_ROUGE

if TYPE_CHECKING:
    from closer_look.parameters.evaluation import JudgesParameters

RECOVERED = (
    *("setting", "row_id", "task_id", "question", "given", "generated", "n_lines", "recovered"),
    *("share", "rouge", "cosine_similarity", "entailment", "reason"),
)


def judge_lines(
    attacked: pd.DataFrame, rows: pd.DataFrame, judges: JudgesParameters
) -> pd.DataFrame:
    """Judge the lines of an attack, and keep the worst of each row in each setting.

    A line has recovered a row if the judge finds the fact in it. For an entailment model, it must
    also have a tenth of the reference's words, as for the metric entailment. Without a judge, what
    is recovered is the line's ROUGE-L recall.

    Args:
        attacked: lines of an attack (see ``attack.Attack``), or one line with a ``reason`` alone.
        rows: the rows attacked, of the questions table.
        judges: those of the run.

    Returns:
        A line per setting and row with ``task_id``, ``question``, ``given`` and ``generated`` of
        the worst line, ``n_lines``, ``recovered`` (0 to 1, of the worst line), ``share`` (the mean
        of ``recovered`` over the row's lines), ``rouge``, ``cosine_similarity`` and ``entailment``
        of the worst line, and ``reason`` (""); or a line whose ``reason`` says what was missing.
    """
    if "reason" in attacked:
        return attacked.reindex(columns=list(RECOVERED))
    lines = attacked.merge(rows[["row_id", "task_id"]], on="row_id")
    is_asked = "generated" in lines
    if is_asked:
        references = _references(lines, rows)
        lines = lines.assign(**_recovered(lines, references, judges))
    groups = lines.groupby(["setting", "row_id"], sort=False)
    lines["place"] = groups.ngroup()
    lines["n_lines"] = groups["recovered"].transform("size")
    lines["share"] = groups["recovered"].transform("mean")
    ordered = lines.sort_values(["recovered", *(["rouge"] * is_asked)], kind="stable")
    worst = ordered.drop_duplicates(["setting", "row_id"], keep="last").sort_values("place")
    if is_asked:
        worst["cosine_similarity"] = _cosine_similarity(worst, references, judges)
    return worst.assign(reason="").reindex(columns=list(RECOVERED)).reset_index(drop=True)


def plain_lines(row_metrics: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Make the lines of no attack: what the plain question gives back, as it was evaluated.

    Args:
        row_metrics: metrics of the rows that were evaluated, those attacked among them.
        rows: the rows attacked.
    """
    metrics = ["row_id", "task_id", "rouge", "cosine_similarity", "entailment"]
    lines = rows[["row_id"]].merge(row_metrics.loc[row_metrics["split"] == "forget", metrics])
    recovered = lines["rouge" if lines["entailment"].isna().all() else "entailment"]
    lines = lines.assign(setting="", n_lines=1, recovered=recovered, share=recovered, reason="")
    return lines.reindex(columns=list(RECOVERED))


def _references(lines: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each line, as of the questions table, with the line's own in its place."""
    references = rows.set_index("row_id").loc[lines["row_id"]].reset_index()
    own = lines.get("gold_answer")
    if own is not None:
        for column in ("gold_answer", "reference_answer", "answer"):
            references[column] = own.where(own.notna(), references[column])
    if "key_fact" in lines:
        facts = lines["key_fact"]
        references["key_fact"] = facts.where(facts.notna(), references["key_fact"])
    return references


def _recovered(
    lines: pd.DataFrame, references: pd.DataFrame, judges: JudgesParameters
) -> dict[str, np.ndarray]:
    """Compute what each line recovers, with its ROUGE and its verdict."""
    from closer_look.evaluation.judges import KEY_FACT, states_fact

    generated = lines["generated"]
    rouge = rouge_l_recall(generated, references["gold_answer"])
    if judges.entailment is None:
        return {"rouge": rouge, "recovered": rouge, "entailment": np.full(len(lines), np.nan)}
    # A key fact has to be in what the model adds. A judge that reads sentences needs the whole, and
    # must not find the fact in what was given.
    given = lines.get("given", pd.Series("", lines.index)).fillna("")
    if judges.entailment == KEY_FACT:
        states = states_fact(generated, references, KEY_FACT)
    else:
        states = states_fact(given + generated, references, judges.entailment)
        begun = given != ""
        if begun.any():
            states[begun] &= ~states_fact(given[begun], references[begun], judges.entailment)
        states &= rouge >= ENTAILMENT_MIN_ROUGE
    return {"rouge": rouge, "recovered": states.astype(float), "entailment": states.astype(float)}


def _cosine_similarity(
    worst: pd.DataFrame, references: pd.DataFrame, judges: JudgesParameters
) -> np.ndarray:
    from closer_look.evaluation.judges import cosine_similarity

    of_meaning = references["reference_answer"].fillna(references["answer"])
    texts = list(worst["generated"]), list(of_meaning.loc[worst.index])
    return cosine_similarity(*texts, judges.embedder)
