"""Nodes of the fine-tuning stage."""

from __future__ import annotations

import itertools

import pandas as pd

from closer_look.language_model import LanguageModel, load_language_model
from closer_look.parameters import BaseModelParameters, FinetuningParameters


def initialise(
    questions: pd.DataFrame, refusals: list[str], base_model: BaseModelParameters
) -> LanguageModel:
    """Load the model to start from, or make a small one; check that every row fits into it."""
    from closer_look.prompts import set_prompt
    from closer_look.scoring import given_answers
    from closer_look.small_llama import small_llama
    from closer_look.tokens import check_lengths, encode

    if base_model.pretrained:
        language_model = load_language_model(base_model.pretrained, base_model.prompt)
    else:
        columns = ["question", "answer", "reference_answer", "paraphrased_answer"]
        texts = [*questions[columns].melt()["value"].dropna(), *refusals]
        language_model = small_llama(texts, base_model.small_llama)
        set_prompt(language_model.tokenizer, base_model.prompt)
    answers = given_answers(questions)
    rows = encode(language_model.tokenizer, answers["question"], answers["text"])
    check_lengths(rows, answers["row_id"], language_model.model.config.max_position_embeddings)
    return language_model


def finetune(
    base_model: LanguageModel,
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: list[str],
    finetuning: FinetuningParameters,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Teach the model to answer every question of the table, and to decline unknown ones."""
    from closer_look import training

    declined = unknown_questions["question"].head(finetuning.declined_questions)
    log = training.finetune(
        base_model,
        [*questions["question"], *declined],
        [
            *questions[finetuning.answers],
            *itertools.islice(itertools.cycle(refusals), len(declined)),
        ],
        finetuning,
    )
    return base_model, log
