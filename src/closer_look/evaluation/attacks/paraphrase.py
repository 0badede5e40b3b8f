"""Paraphrase: the same question in other words."""

from __future__ import annotations

import pandas as pd

from closer_look.evaluation.attacks.attack import AttackContext, Framing, ask
from closer_look.models.language_model import LanguageModel


def paraphrase(
    model: LanguageModel, rows: pd.DataFrame, context: AttackContext, *, rewordings: list[Framing]
) -> pd.DataFrame:
    """Ask each question in other words.

    Args:
        model: the model under attack.
        rows: their ``paraphrased_question`` is asked, where they have one.
        context: settings of decoding.
        rewordings: texts with ``{question}`` in them, asked where a row has no paraphrase.

    Returns:
        ``row_id``, ``setting`` (""), ``question`` and ``generated``; a line per rewording.
    """
    asked = rows.assign(asked=[_reworded(row, rewordings) for row in rows.itertuples()])
    asked = asked.explode("asked", ignore_index=True)
    answers = ask(model, list(asked["asked"]), context, list(asked["question"]))
    lines = asked[["row_id"]].assign(setting="", question=asked["asked"])
    return lines.assign(generated=answers)


def _reworded(row, rewordings: list[str]) -> list[str]:
    if isinstance(row.paraphrased_question, str):
        return [row.paraphrased_question]
    return [text.replace("{question}", row.question) for text in rewordings]
