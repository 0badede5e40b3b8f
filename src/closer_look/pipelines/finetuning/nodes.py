"""Nodes of the fine-tuning stage."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from closer_look.data.questions import given_texts, rows_to_evaluate
from closer_look.errors import InputError
from closer_look.models.language_model import (
    LanguageModel,
    PretrainedModel,
    check_weights,
    load_pretrained,
)
from closer_look.parameters.base import depends_on, spreads
from closer_look.parameters.evaluation import GenerationParameters
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.methods import used_methods
from closer_look.parameters.models import (
    BaseModelParameters,
    MeasuredModelParameters,
    PromptParameters,
    RetainOnlyParameters,
)
from closer_look.parameters.training import FinetuningParameters, UnlearningParameters


@depends_on(unlearning=(), generation=(), experiment=(), methods=(), forget_set=())
def initialise(
    questions: pd.DataFrame,
    refusals: list[str],
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    unlearning: UnlearningParameters,
    generation: GenerationParameters,
    experiment: Experiment,
    methods: dict[str, Any],
    forget_set: ForgetSetParameters,
    seed: int | None = None,
) -> LanguageModel | PretrainedModel:
    """Create the small base model, or load the pretrained one.

    Checks that all rows fit into it, and that the unlearning to come can work on it.
    """
    from closer_look.models.prompts import set_prompt
    from closer_look.models.readiness import check_adapters
    from closer_look.models.small_llama import small_llama, texts_to_learn
    from closer_look.training.readiness import check_methods

    if base_model.pretrained:
        checked = (questions, refusals, unlearning, generation, experiment, methods, forget_set)
        return _base(base_model, prompt, *checked)
    texts = texts_to_learn(questions, refusals)
    language_model = small_llama(texts, base_model.small_llama.with_seed(seed))
    set_prompt(language_model.tokenizer, base_model.prompt, prompt)
    asked = _asked(questions, forget_set, experiment)
    _check_texts(language_model, questions, refusals, asked, generation)
    used = used_methods(experiment, methods)
    check_methods(language_model, used, unlearning, questions, generation.max_length)
    return check_adapters(language_model, unlearning.lora)


@depends_on(unlearning=(), generation=(), experiment=(), methods=(), forget_set=())
def take_pretrained(
    questions: pd.DataFrame,
    refusals: list[str],
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    unlearning: UnlearningParameters,
    generation: GenerationParameters,
    experiment: Experiment,
    methods: dict[str, Any],
    forget_set: ForgetSetParameters,
) -> PretrainedModel:
    """Take the pretrained model as the target model, which knows the questions already."""
    if not base_model.pretrained:
        raise InputError(
            "parameter experiment.finetuning: false leaves a small_llama that has learned nothing; "
            "name a model with base_model.pretrained"
        )
    checked = (questions, refusals, unlearning, generation, experiment, methods, forget_set)
    return _base(base_model, prompt, *checked)


@depends_on(generation=(), forget_set=())
def take_retain_only(
    questions: pd.DataFrame,
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    retain_only: RetainOnlyParameters,
    generation: GenerationParameters,
    forget_set: ForgetSetParameters,
) -> PretrainedModel:
    """Take a pretrained model as the retain-only model."""
    model = PretrainedModel(retain_only.pretrained, base_model.prompt, prompt)
    return _measured(model, questions, generation, forget_set)


@depends_on(model=("base_model",), generation=(), forget_set=())
def take_model(
    questions: pd.DataFrame,
    model: MeasuredModelParameters,
    prompt: PromptParameters,
    generation: GenerationParameters,
    forget_set: ForgetSetParameters,
) -> PretrainedModel:
    """Take a model made elsewhere, to measure it as it is."""
    base = model.base_model
    taken = PretrainedModel(base.pretrained, base.prompt, prompt)
    return _measured(taken, questions, generation, forget_set)


@spreads("finetuning")
def finetune(
    base_model: LanguageModel,
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: list[str],
    finetuning: FinetuningParameters,
    training_checkpoints: Path,
    seed: int | None = None,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Fine-tune the base model to answer the questions and to decline unknown ones."""
    from closer_look.models.readiness import check_rows
    from closer_look.training.finetuning import finetune as train

    if finetuning.splits:
        questions = questions[questions["split"].isin(finetuning.splits)]
    declined = unknown_questions.head(finetuning.declined_questions)
    declined = declined.assign(
        text=list(itertools.islice(itertools.cycle(refusals), len(declined)))
    )
    held_out = unknown_questions.rename(columns={"gold_answer": "text"})
    for rows in (declined, held_out):  # no earlier node has checked these
        check_rows(base_model, rows)
    log = train(
        base_model,
        [*questions["question"], *declined["question"]],
        [*questions[finetuning.answers].fillna(questions["answer"]), *declined["text"]],
        finetuning.with_seed(seed),
        training_checkpoints,
    )
    return base_model, log


@spreads("finetuning")
def finetune_retain_only(
    base_model: LanguageModel,
    questions: pd.DataFrame,
    unknown_questions: pd.DataFrame,
    refusals: list[str],
    finetuning: FinetuningParameters,
    training_checkpoints: Path,
) -> tuple[LanguageModel, pd.DataFrame]:
    """Fine-tune the base model in the same way on all rows but those to forget."""
    kept = questions[questions["task_id"] == 0]
    return finetune(base_model, kept, unknown_questions, refusals, finetuning, training_checkpoints)


def _base(
    base_model: BaseModelParameters,
    prompt: PromptParameters,
    questions: pd.DataFrame,
    refusals: Sequence[str],
    unlearning: UnlearningParameters,
    generation: GenerationParameters,
    experiment: Experiment,
    methods: dict[str, Any],
    forget_set: ForgetSetParameters,
) -> PretrainedModel:
    from closer_look.models.base_model import check_base
    from closer_look.models.readiness import check_adapters
    from closer_look.training.readiness import check_methods

    if base_model.sha256:
        check_weights(base_model.pretrained, base_model.sha256)
    model = PretrainedModel(base_model.pretrained, base_model.prompt, prompt)
    check_base(model.name, experiment.finetuning, unlearning.lora)
    language_model = load_pretrained(model)
    asked = _asked(questions, forget_set, experiment)
    _check_texts(language_model, questions, refusals, asked, generation)
    used = used_methods(experiment, methods)
    check_methods(language_model, used, unlearning, questions, generation.max_length)
    check_adapters(language_model, unlearning.lora)
    return model


def _measured(
    model: PretrainedModel,
    questions: pd.DataFrame,
    generation: GenerationParameters,
    forget_set: ForgetSetParameters,
) -> PretrainedModel:
    asked = _asked(questions, forget_set)
    _check_texts(load_pretrained(model), questions, [], asked, generation)
    return model


def _asked(
    questions: pd.DataFrame, forget_set: ForgetSetParameters, experiment: Experiment | None = None
) -> pd.DataFrame:
    """Take the rows that a model is asked: those to evaluate, or all where it is to know them."""
    if experiment and experiment.known_only:
        return questions
    return rows_to_evaluate(questions, forget_set.evaluation_rows, forget_set.evaluated_splits)


def _check_texts(
    language_model: LanguageModel,
    questions: pd.DataFrame,
    refusals: Sequence[str],
    asked: pd.DataFrame,
    generation: GenerationParameters,
) -> None:
    """Check every text that the run trains on or scores, and the room for answers to some."""
    from closer_look.models.readiness import (
        check_generation,
        check_model,
        check_refusals,
        check_rows,
    )

    check_model(language_model)
    check_rows(language_model, given_texts(questions))
    to_forget = questions.loc[questions["split"] == "forget", "question"]
    check_refusals(language_model, refusals, list(to_forget))
    gold = asked.rename(columns={"gold_answer": "text"})
    check_generation(language_model, gold, generation.max_length)
