"""Nodes of the fine-tuning stage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from closer_look.errors import InputError, quote
from closer_look.language_model import (
    LanguageModel,
    PretrainedModel,
    check_precision,
    check_weights,
    load_language_model,
)
from closer_look.parameters import (
    BaseModelParameters,
    FinetuningParameters,
    RetainOnlyParameters,
    UnlearningParameters,
    reads,
)


@reads(unlearning=())
def initialise(
    questions: pd.DataFrame,
    refusals: list[str],
    base_model: BaseModelParameters,
    unlearning: UnlearningParameters,
) -> LanguageModel | PretrainedModel:
    """Make a small model to start from, or see that the pretrained one is there.

    All rows fit into it, and so do the adapters.
    """
    from closer_look.prompts import set_prompt
    from closer_look.small_llama import small_llama

    if base_model.pretrained:
        return _base(base_model, questions, unlearning, refusals)
    columns = ["question", "answer", "reference_answer", "paraphrased_answer"]
    texts = [*questions[columns].melt()["value"].dropna(), *refusals]
    language_model = small_llama(texts, base_model.small_llama)
    set_prompt(language_model.tokenizer, base_model.prompt)
    _check_rows(language_model, questions, refusals)
    return _check_adapters(language_model, unlearning)


@reads(unlearning=())
def take_pretrained(
    questions: pd.DataFrame,
    refusals: list[str],
    base_model: BaseModelParameters,
    unlearning: UnlearningParameters,
) -> PretrainedModel:
    """Take the pretrained model as the target model: it knows the questions already."""
    if not base_model.pretrained:
        raise InputError(
            "parameter experiment.finetuning: false leaves a small_llama that has learned nothing; "
            "name a model with base_model.pretrained"
        )
    return _base(base_model, questions, unlearning, refusals)


def take_retain_only(
    questions: pd.DataFrame, base_model: BaseModelParameters, retain_only: RetainOnlyParameters
) -> PretrainedModel:
    """Take a pretrained model that never saw what is forgotten."""
    return _pretrained(retain_only.pretrained, base_model.prompt, questions)


def finetune(
    base_model: LanguageModel,
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: list[str],
    finetuning: FinetuningParameters,
    training_checkpoints: Path,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Teach the model to answer every question of the table, and to decline unknown ones."""
    from closer_look import training

    check_precision(finetuning.precision, "finetuning")
    if finetuning.splits:
        questions = questions[questions["split"].isin(finetuning.splits)]
    declined = unknown_questions.head(finetuning.declined_questions)
    declined = declined.assign(
        text=list(itertools.islice(itertools.cycle(refusals), len(declined)))
    )
    _check_texts(base_model, declined)  # no other node has seen them
    log = training.finetune(
        base_model,
        [*questions["question"], *declined["question"]],
        [*questions[finetuning.answers].fillna(questions["answer"]), *declined["text"]],
        finetuning,
        training_checkpoints,
    )
    return base_model, log


def finetune_retain_only(
    base_model: LanguageModel,
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: list[str],
    finetuning: FinetuningParameters,
    training_checkpoints: Path,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Teach the model, in the same way, everything but what is forgotten."""
    kept = questions[questions["task_id"] == 0]
    return finetune(base_model, kept, unknown_questions, refusals, finetuning, training_checkpoints)


def _base(
    base_model: BaseModelParameters,
    questions: pd.DataFrame,
    unlearning: UnlearningParameters,
    refusals: Sequence[str],
) -> PretrainedModel:
    if base_model.sha256:
        check_weights(base_model.pretrained, base_model.sha256)
    return _pretrained(base_model.pretrained, base_model.prompt, questions, unlearning, refusals)


def _pretrained(
    name: str,
    prompt: str,
    questions: pd.DataFrame,
    unlearning: UnlearningParameters | None = None,
    refusals: Sequence[str] = (),
) -> PretrainedModel:
    language_model = load_language_model(name, prompt)
    _check_rows(language_model, questions, refusals)
    if unlearning:
        _check_adapters(language_model, unlearning)
    return PretrainedModel(name, prompt)


def _check_adapters(
    language_model: LanguageModel, unlearning: UnlearningParameters
) -> LanguageModel:
    """See that adapters find their layers, and take them off again."""
    from closer_look.adapters import with_adapter

    if not unlearning.lora:
        return language_model
    adapted = with_adapter(language_model, unlearning.lora)
    model = adapted.model.unload().requires_grad_(True)
    return LanguageModel(model, language_model.tokenizer)


def _check_rows(
    language_model: LanguageModel, questions: pd.DataFrame, refusals: Sequence[str]
) -> None:
    """See that every text that is trained or scored is but text, and fits into the context."""
    from closer_look.scoring import given_answers

    trained = questions.melt(["row_id", "question"], ["answer", "reference_answer"], "kind", "text")
    _check_texts(language_model, pd.concat([trained.dropna(), given_answers(questions)]))
    _check_refusals(language_model, questions, refusals)


def _check_texts(language_model: LanguageModel, rows: pd.DataFrame) -> None:
    """See that each ``question`` and ``text`` is but text, and that both fit into the context."""
    from closer_look.prompts import check_texts
    from closer_look.tokens import check_lengths, encode

    names = [f"row {quote(row_id)}" for row_id in rows["row_id"]]
    for column in ("question", "text"):
        check_texts(language_model.tokenizer, names, rows[column])
    context_length = _context_length(language_model)
    if context_length is not None:
        encoded = encode(language_model.tokenizer, rows["question"], rows["text"])
        check_lengths(encoded, rows["row_id"], context_length)


def _check_refusals(
    language_model: LanguageModel, questions: pd.DataFrame, refusals: Sequence[str]
) -> None:
    """See that every refusal is but text, and fits behind every question to forget."""
    from closer_look.prompts import check_texts
    from closer_look.tokens import encode, encode_prompts

    tokenizer = language_model.tokenizer
    check_texts(tokenizer, [f"refusal {n}" for n in range(1, len(refusals) + 1)], refusals)
    context_length = _context_length(language_model)
    if context_length is None:
        return
    asked = questions.loc[questions["split"] == "forget", "question"]
    _, longest = max(zip(map(len, encode_prompts(tokenizer, list(asked))), asked, strict=True))
    rows = encode(tokenizer, [longest] * len(refusals), refusals)
    for number, row in enumerate(rows, start=1):
        if len(row) > context_length:
            raise InputError(
                f"refusal {number}: with the longest question to forget it takes {len(row)} "
                f"tokens, the model's context holds {context_length}"
            )


def _context_length(language_model: LanguageModel) -> int | None:
    """Tokens that the model can take at most, if its positions have a limit."""
    configuration = language_model.model.config.get_text_config()
    return getattr(configuration, "max_position_embeddings", None)
