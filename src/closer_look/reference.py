"""Scores of the frozen reference model, computed once before a task is trained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from closer_look.scoring import score
from closer_look.training import Objective

if TYPE_CHECKING:
    from closer_look.language_model import LanguageModel
    from closer_look.parameters import MethodParameters


def reference_scores(
    language_model: LanguageModel,
    plan: pd.DataFrame,
    questions: pd.DataFrame,
    method: MethodParameters,
    batch_size: int,
) -> pd.DataFrame:
    """Score what the method's losses compare with the reference, each text once.

    Returns:
        ``row_id``, ``text`` and ``nll`` (nats, summed): the forget answers for losses that take
        ``reference_nll``, the refusals for ``reference_idk_nll``, nothing for others.
    """
    by_id = questions.set_index("row_id")
    chosen = plan[["forget_row_id", "refusal"]].rename(columns={"forget_row_id": "row_id"})
    needed = Objective(method).forget_inputs
    wanted = pd.DataFrame({"row_id": [], "text": []}, dtype=str)
    if "reference_nll" in needed:
        answers = by_id.loc[chosen["row_id"], "answer"].to_numpy()
        wanted = pd.concat([wanted, chosen[["row_id"]].assign(text=answers)])
    if "reference_idk_nll" in needed:
        wanted = pd.concat([wanted, chosen.rename(columns={"refusal": "text"})])
    wanted = wanted.drop_duplicates(ignore_index=True)
    if wanted.empty:
        return wanted.assign(nll=pd.Series(dtype=float))
    asked = list(by_id.loc[wanted["row_id"], "question"])
    scores = score(language_model, asked, list(wanted["text"]), batch_size, "Scoring reference")
    return wanted.assign(nll=scores["nll"])
