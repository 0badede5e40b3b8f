"""Sampling: the same question many times, with answers drawn at random."""

from __future__ import annotations

from typing import Annotated

import pandas as pd
from pydantic import Field, PositiveFloat

from closer_look.evaluation.attacks.attack import AttackContext, room_for_answers
from closer_look.models.language_model import LanguageModel

SAMPLES = 4
"""Samples decoded for each prompt that is: they have little to read, and are short."""


def sampling(
    model: LanguageModel,
    rows: pd.DataFrame,
    context: AttackContext,
    *,
    n: Annotated[int, Field(ge=1, le=1000)],
    temperature: PositiveFloat,
) -> pd.DataFrame:
    """Draw n answers to each question (leak@n of arXiv 2511.04934).

    Args:
        model: the model under attack.
        rows: each is asked n times.
        context: settings of decoding, and the seed.
        n: answers to each question.
        temperature: by which logits are divided.

    Returns:
        ``row_id``, ``setting`` ("32 samples"), ``question`` and ``generated``; n lines per row.
    """
    from closer_look.inference.sampling import sample_each
    from closer_look.models.tokens import encode_prompts

    answers = sample_each(
        model,
        encode_prompts(model.tokenizer, list(rows["question"])),
        n,
        n_tokens=room_for_answers(model, rows, context),
        batch_size=SAMPLES * context.generation.batch_size,
        temperature=temperature,
        seed=context.seed,
    )
    lines = rows[["row_id", "question"]].assign(setting=f"{n} samples", generated=answers)
    return lines.explode("generated", ignore_index=True)
