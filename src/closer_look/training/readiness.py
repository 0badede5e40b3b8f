"""Checks before training: can each method of a run work on the model?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from closer_look.data.questions import given_texts, name_subjects
from closer_look.errors import InputError
from closer_look.models.hidden_states import layer_number
from closer_look.models.instruction import instruct, instruction_length
from closer_look.models.output_head import check_output_head
from closer_look.models.readiness import check_rows, context_length
from closer_look.parameters.methods import faults_of, settings_of
from closer_look.training.unlearning import trainable_only
from closer_look.training.workers import check_sharing

if TYPE_CHECKING:
    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.methods import MethodParameters
    from closer_look.parameters.training import UnlearningParameters


def check_methods(
    language_model: LanguageModel,
    methods: Mapping[str, MethodParameters],
    unlearning: UnlearningParameters,
    questions: pd.DataFrame,
    max_length: int,
) -> None:
    """Check that methods can work on a model, before anything is trained.

    Args:
        language_model: the model from which they will start, or one of its kind.
        methods: by name.
        unlearning: settings that the methods share.
        questions: the questions table.
        max_length: largest number of tokens of a question and its answer together.

    Raises:
        InputError: the settings of a method do not go together; it reads a layer that is not there,
            or trains weights that are not; its instruction finds no place; the model's logits do
            not follow from its last hidden states; or several workers cannot train it.
    """
    for name, method in methods.items():
        with faults_of(name):
            settings_of(method, unlearning)
            with trainable_only(language_model.model, method.trainable):
                pass
            if method.reads("activations"):
                layer_number(language_model.model, method.activations.layer)
            if method.instruction:
                _check_instruction(language_model, method.instruction, questions, max_length)
    if any(method.reads("reference_logits") for method in methods.values()):
        check_output_head(language_model)
    check_sharing(language_model.model, unlearning, "unlearning")


def _check_instruction(
    language_model: LanguageModel, instruction: str, questions: pd.DataFrame, max_length: int
) -> None:
    instructed = instruct(language_model, name_subjects(instruction, questions))
    check_rows(instructed, given_texts(questions))
    longest, needed = context_length(instructed), instruction_length(instructed.tokenizer)
    if longest is not None and needed + max_length > longest:
        raise InputError(
            f"the instruction takes {needed} tokens beside the {max_length} of "
            f"generation.max_length, the model's context holds {longest}"
        )
