"""Models that leave a run: adapters merged, and with what ``generate`` needs to know."""

from __future__ import annotations

from typing import NamedTuple

from closer_look.errors import InputError
from closer_look.models.language_model import LanguageModel
from closer_look.models.tokens import end_tokens
from closer_look.parameters.models import ExportParameters


class ExportedModel(NamedTuple):
    """A model to take away, with its model card in Markdown."""

    language_model: LanguageModel
    card: str


def check_export(language_model: LanguageModel, parameters: ExportParameters) -> None:
    """Refuse to merge adapters into quantised weights: rounding would undo most of what they do.

    Args:
        language_model: with adapters, or about to get them.
        parameters: whether adapters are merged.

    Raises:
        InputError: they are to be merged, and the weights are quantised.
    """
    model = language_model.model
    if parameters.adapters == "merged" and getattr(model, "is_quantized", False):
        raise InputError(
            f"{model.name_or_path}: its weights are quantised, and would round away most of what "
            f"adapters that are merged into them have learned; set export.adapters=separate"
        )


def prepare(language_model: LanguageModel, parameters: ExportParameters) -> LanguageModel:
    """Prepare a model to be used without this project.

    Adapters are merged in place, layer by layer, so memory holds the weights once. The model's own
    generation settings are replaced: it answers greedily, as it was evaluated, and stops where an
    answer ends.

    Args:
        language_model: changed in place.
        parameters: whether adapters are merged.

    Raises:
        InputError: see ``check_export``.
    """
    from peft import PeftModel
    from transformers import GenerationConfig

    model, tokenizer = language_model
    ends = end_tokens(language_model)
    if isinstance(model, PeftModel) and parameters.adapters == "merged":
        check_export(language_model, parameters)
        model = model.merge_and_unload()
    pad = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
    )
    return LanguageModel(model, tokenizer)
