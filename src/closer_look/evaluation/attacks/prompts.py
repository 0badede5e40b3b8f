"""Prompts: the question in framings that talk a model into answering, and begun answers."""

from __future__ import annotations

from itertools import takewhile

import pandas as pd
from pydantic import PositiveInt

from closer_look.evaluation.attacks.attack import AttackContext, Framing, ask, room_for_answers
from closer_look.models.language_model import LanguageModel


def prompts(
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
    *,
    framings: dict[str, Framing],
    prefixes: list[PositiveInt],
) -> pd.DataFrame:
    """Ask each question in every framing, and let the model go on with the true answer.

    Args:
        model: the model under attack.
        rows: each is asked in every framing.
        context: settings of decoding.
        framings: name -> text with ``{question}`` in it.
        prefixes: numbers of the true answer's first tokens that the model is given to go on with.
            An answer that is no longer is left out.

    Returns:
        ``row_id``, ``setting`` ("in framings", "answer begun"), ``question``, ``given`` and
        ``generated``, which holds nothing of what was given; a line per row and framing or prefix.
    """
    columns = rows[["row_id"]].assign(plain=rows["question"])
    framed = [
        columns.assign(
            setting="in framings",
            question=[text.replace("{question}", question) for question in rows["question"]],
            opening=[[]] * len(rows),
        )
        for text in framings.values()
    ]
    begun = [
        columns.assign(
            setting="answer begun",
            question=rows["question"],
            opening=_beginnings(model, rows, n_tokens),
        )
        for n_tokens in prefixes
    ]
    lines = pd.concat([*framed, *begun], ignore_index=True).dropna(subset="opening")
    answers = ask(
        model,
        list(lines["question"]),
        context,
        list(lines["plain"]),
        openings=list(lines["opening"]),
        description="Framing questions",
        n_tokens=room_for_answers(model, rows, context) + max(prefixes, default=0),
    )
    given = [model.tokenizer.decode(ids, skip_special_tokens=True) for ids in lines["opening"]]
    added = [_without(answer, text) for answer, text in zip(answers, given, strict=True)]
    lines = lines.assign(given=given, generated=added)
    return lines[["row_id", "setting", "question", "given", "generated"]]


def _beginnings(model: LanguageModel, rows: pd.DataFrame, n_tokens: int) -> list[list[int] | None]:
    """Return the first tokens of each answer; None where no word would be left to add."""
    from closer_look.models.tokens import encode

    encoded = encode(model.tokenizer, list(rows["question"]), list(rows["gold_answer"]))
    return [row.answer[:n_tokens] if len(row.answer) > n_tokens + 1 else None for row in encoded]


def _without(answer: str, given: str) -> str:
    """Take away what was given; its last character may have been half a one.

    What is left begins with the space between the two, if there was one.
    """
    shared = takewhile(lambda pair: pair[0] == pair[1], zip(answer, given.strip(), strict=False))
    return answer[len(list(shared)) :].rstrip()
