"""LoRA adapters on a language model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from closer_look.errors import InputError, first_line
from closer_look.models.language_model import LanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from closer_look.parameters.training import LoraParameters


def with_adapter(language_model: LanguageModel, lora: LoraParameters) -> LanguageModel:
    """Add LoRA adapters to a model, unless it has them from an earlier task.

    "all-linear" means all that read text: the experts of a mixture too, whose weights are no layers
    of their own, and none that see or hear.

    Raises:
        InputError: the target modules match no layer of the model, "all-linear" does not reach all,
            or experts are to have dropout, with which PEFT has no adapters for them.
    """
    from peft import LoraConfig, PeftModel, get_peft_model

    model, tokenizer = language_model
    if isinstance(model, PeftModel):
        return language_model
    reaches_all = lora.target_modules == "all-linear"
    experts = _experts(model) if reaches_all else []
    if experts and lora.dropout:
        raise InputError(
            f"parameter unlearning.lora.dropout: adapters on the experts of {type(model).__name__} "
            f"take none; set it to 0, or leave the experts as they are by naming layers in "
            f"unlearning.lora.target_modules"
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        target_parameters=experts or None,
        exclude_modules=_excluded(model) if reaches_all else None,
        task_type="CAUSAL_LM",
    )
    try:
        adapted = get_peft_model(model, config)
    except ValueError as error:
        raise InputError(f"parameter unlearning.lora.target_modules: {first_line(error)}") from None
    left_out = _left_out(adapted.get_base_model(), config.exclude_modules or ())
    if reaches_all and left_out:
        raise InputError(
            f"parameter unlearning.lora.target_modules: 'all-linear' does not reach {left_out[0]} "
            f"of {type(model).__name__}; name the layers to adapt"
        )
    return LanguageModel(adapted, tokenizer)


def _experts(model: PreTrainedModel) -> list[str]:
    """List the weights that experts share, (experts, in, out), by the end of their names."""
    from torch.nn.modules.conv import _ConvNd

    return sorted(
        {
            ".".join(name.rsplit(".", 2)[-2:])
            for name, weight in model.named_parameters()
            if weight.dim() == 3
            and min(weight.shape) > 1  # RWKV's decay has as many dimensions
            and not isinstance(model.get_submodule(name.rpartition(".")[0]), _ConvNd)
        }
    )


def _excluded(model: PreTrainedModel) -> list[str]:
    """List the linear layers that take no adapter.

    They return something else than others, as the router of Llama 4 does, or read no text.
    """
    from torch.nn import Linear

    whole = model
    if model.config.get_text_config() is not model.config:  # it sees or hears, too
        embeddings = model.get_input_embeddings()
        whole = next(one for one in model.modules() if embeddings in one.children())
    of_text = {*whole.modules(), model.get_output_embeddings()}
    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, Linear)
        and (layer not in of_text or type(layer).__module__.startswith("transformers.models."))
    ]


def _left_out(model: PreTrainedModel, excluded: list[str]) -> list[str]:
    """List the linear layers without an adapter, but for the output head."""
    from torch.nn import Linear

    return [
        name
        for name, layer in model.named_modules()
        if isinstance(layer, Linear)
        and not {"base_layer", "lora_A", "lora_B"} & set(name.split("."))
        and name not in excluded
        and layer is not model.get_output_embeddings()
    ]
