"""LoRA adapters on a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from closer_look.errors import InputError
from closer_look.models.language_model import LanguageModel

if TYPE_CHECKING:
    from closer_look.parameters.training import LoraParameters


def with_adapter(language_model: LanguageModel, lora: LoraParameters) -> LanguageModel:
    """Add LoRA adapters to a model, unless it has them from an earlier task.

    Raises:
        InputError: the target modules match no layer of the model.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    model, tokenizer = language_model
    if isinstance(model, PeftModel):
        return language_model
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )
    try:
        return LanguageModel(get_peft_model(model, config), tokenizer)
    except ValueError as error:
        raise InputError(f"parameter unlearning.lora.target_modules: {error}") from None
