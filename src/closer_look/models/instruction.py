"""An instruction in a model's prompts, in place of training (arXiv 2403.03329)."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING

from closer_look.errors import InputError
from closer_look.models.language_model import LanguageModel
from closer_look.models.prompts import QUESTION, render_prompts, system_message
from closer_look.models.tokens import encode_prompts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

INSTRUCTED = re.compile(r"\{#- an instruction of (\d+) tokens -#\}")


def instruct(language_model: LanguageModel, text: str) -> LanguageModel:
    """Write an instruction into a model's chat template, as a system message.

    It follows the run's own system message, if there is one.

    Args:
        language_model: stays as it is; the weights are shared.
        text: the instruction, without spaces at its ends, which templates take away.

    Raises:
        InputError: the chat template takes no system message.
    """
    model, tokenizer = language_model
    instructed = copy.deepcopy(tokenizer)
    (before,) = encode_prompts(tokenizer, [QUESTION])
    instructed.chat_template = system_message(text) + tokenizer.chat_template
    fault = InputError(
        f"{tokenizer.name_or_path}: its chat template takes no system message, in which the "
        f"instruction is to stand; use prompt 'plain', or leave the method out"
    )
    try:
        if text not in render_prompts(instructed, [QUESTION])[0]:
            raise fault
    except InputError:
        raise fault from None
    (after,) = encode_prompts(instructed, [QUESTION])
    note = f"{{#- an instruction of {len(after) - len(before)} tokens -#}}"
    instructed.chat_template = note + instructed.chat_template
    return LanguageModel(model, instructed)


def instruction_length(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens that an instruction adds to each prompt; 0 without one."""
    found = INSTRUCTED.search(str(tokenizer.chat_template))
    return int(found[1]) if found else 0
