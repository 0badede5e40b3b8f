"""What a run can start from: a model's configuration tells, before its weights are read.

A quantised model is used as what it is, or not at all: weights that are spread out to fp32 and
saved would be another model.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closer_look.errors import InputError, quote
from closer_look.models.model_folder import check_folder, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from closer_look.parameters.training import LoraParameters

ADAPTABLE = "bitsandbytes 4-bit"
"""The one kind of quantised weights on which adapters were seen to learn."""


def adapter_settings(name: str) -> dict[str, Any] | None:
    """Return the configuration of the adapters under a name; None if it is a whole model."""
    from transformers.utils.peft_utils import find_adapter_config_file

    try:
        path = find_adapter_config_file(name)
    except OSError:  # no such model: whoever loads it says so
        return None
    return None if path is None else read_settings(Path(path))


def quantisation(name: str) -> str | None:
    """Return how the weights of a model, or of its adapters' base model, are quantised.

    Args:
        name: folder or hub name.

    Returns:
        The method, such as "gptq" or "bitsandbytes 4-bit"; None if the weights are plain numbers.
    """
    from transformers import PreTrainedConfig

    adapters = adapter_settings(name)
    if adapters is not None:
        name = adapters.get("base_model_name_or_path")
    try:
        config = PreTrainedConfig.get_config_dict(str(name))[0] if name else {}
        # The part of a multimodal model that reads text has a configuration of its own.
        parts = [config, *(one for one in config.values() if isinstance(one, dict))]
    except Exception:  # broken files raise anything; whoever loads the model says what is wrong
        return None
    for part in parts:
        found = part.get("quantization_config") or part.get("compression_config")
        if found:
            found = found if isinstance(found, dict) else {"quant_method": found}
            method = found.get("quant_method", "bitsandbytes")  # old folders name it in other words
            return f"{method} 4-bit" if found.get("load_in_4bit") else str(method)
    return None


def check_quantisation(name: str) -> None:
    """Refuse weights that are quantised in a way in which no run was verified.

    Raises:
        InputError: naming the method, or the package that reads it.
    """
    found = quantisation(name)
    if found not in (None, ADAPTABLE):
        raise InputError(
            f"{name}: its weights are quantised ({quote(found)}), which is not supported; use the "
            f"model before it was quantised, or one in {ADAPTABLE} with unlearning.lora"
        )
    if found and importlib.util.find_spec("bitsandbytes") is None:
        raise InputError(
            f"{name}: its weights are in {ADAPTABLE}; pip install 'closer-look[quantised]'"
        )


def compute_exactly(model: PreTrainedModel) -> None:
    """Let 4-bit layers compute in fp32, as others do, with their weights as they are on disk."""
    import torch

    for layer in model.modules():
        if hasattr(layer, "quant_state"):
            layer.compute_dtype = torch.float32
            # For speed on some CPUs, bitsandbytes would round the weights' scales, for good.
            layer.support_avx512bf16_for_cpu = False


def check_base(name: str, finetuning: bool, lora: LoraParameters | None) -> None:
    """Check that the training of a run can start from a model.

    Args:
        name: folder or hub name.
        finetuning: whether all weights are fine-tuned first.
        lora: the adapters of unlearning; None if it trains all weights.

    Raises:
        InputError: see ``model_folder.check_folder``; or all weights are to be trained, but they
            are quantised; or the model is itself adapters, which cannot be merged or which new ones
            cannot stand on.
    """
    check_folder(name)
    adapters, quantised = adapter_settings(name), quantisation(name)
    merge = "merge them with PEFT's merge_and_unload, and name the folder with the whole model"
    if adapters is not None:
        if adapters.get("peft_type") != "LORA":
            kind = quote(adapters.get("peft_type"))
            raise InputError(f"{name}: adapters of type {kind} are not supported; {merge}")
        if quantised:
            raise InputError(
                f"{name}: its adapters stand on a quantised model ({quantised}); put them on the "
                f"model before it was quantised, {merge}"
            )
        if lora and not finetuning:
            raise InputError(
                f"{name}: its adapters would lie under those of unlearning.lora; {merge}"
            )
    if quantised and (finetuning or lora is None):
        raise InputError(
            f"{name} is quantised ({quantised}) and cannot be trained itself; set "
            f"experiment.finetuning=false,unlearning.lora.rank=8, or use the model before it was "
            f"quantised"
        )
