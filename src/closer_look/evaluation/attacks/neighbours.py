"""Neighbours: other questions whose answers give the fact away."""

from __future__ import annotations

import pandas as pd

from closer_look.evaluation.attacks.attack import AttackContext, ask
from closer_look.models.language_model import LanguageModel


def neighbours(model: LanguageModel, rows: pd.DataFrame, context: AttackContext) -> pd.DataFrame:
    """Ask what is related to each row: under another name, in two steps, what follows from it.

    Args:
        model: the model under attack.
        rows: their column ``related`` has the questions; rows without any are left out.
        context: settings of decoding.

    Returns:
        ``row_id``, ``setting`` (the kind of question), ``question``, ``gold_answer`` and
        ``key_fact`` (missing where they are the row's own) and ``generated``; a line per related
        question.
    """
    lines = rows[["row_id", "question", "related"]].explode("related", ignore_index=True)
    lines = lines.dropna(subset="related")
    related = pd.DataFrame(lines["related"].tolist(), lines.index)
    related = related.reindex(columns=["kind", "question", "answer", "key_fact"])
    answers = ask(model, list(related["question"]), context, list(lines["question"]))
    return pd.DataFrame(
        {
            "row_id": lines["row_id"],
            "setting": related["kind"].astype(object).fillna("related questions"),
            "question": related["question"],
            "gold_answer": related["answer"],
            "key_fact": related["key_fact"],
            "generated": answers,
        }
    )
