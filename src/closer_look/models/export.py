"""Models that leave a run: adapters merged, and with what ``generate`` needs to know."""

from __future__ import annotations

from typing import NamedTuple

from closer_look.models.language_model import LanguageModel
from closer_look.models.tokens import end_tokens
from closer_look.parameters.models import ExportParameters


class ExportedModel(NamedTuple):
    """A model to take away, with its model card in Markdown."""

    language_model: LanguageModel
    card: str


def prepare(language_model: LanguageModel, parameters: ExportParameters) -> LanguageModel:
    """Prepare a model to be used without this project.

    Adapters are merged in place, layer by layer, so memory holds the weights once. The model's own
    generation settings are replaced: it answers greedily, as it was evaluated, and stops where an
    answer ends.

    Args:
        language_model: changed in place.
        parameters: whether adapters are merged.
    """
    from peft import PeftModel
    from transformers import GenerationConfig

    model, tokenizer = language_model
    ends = end_tokens(language_model)
    if isinstance(model, PeftModel) and parameters.adapters == "merged":
        model = model.merge_and_unload()
    pad = ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = GenerationConfig(
        do_sample=False,
        eos_token_id=ends if len(ends) > 1 else ends[0],
        pad_token_id=pad,
        bos_token_id=tokenizer.bos_token_id,
    )
    return LanguageModel(model, tokenizer)
