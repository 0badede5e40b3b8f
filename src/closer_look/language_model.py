"""The pair that every stage passes on: a model and its tokenizer."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from closer_look.errors import InputError, first_line
from closer_look.model_folder import check_folder
from closer_look.prompts import set_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LanguageModel(NamedTuple):
    """A causal language model with its tokenizer.

    How a question becomes a prompt is the tokenizer's chat template (see ``prompts``), so that it
    travels with the model wherever both are saved.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class PretrainedModel(NamedTuple):
    """Somebody else's model, by name: it stays where it is and is never written again."""

    name: str
    prompt: str


def check_precision(precision: str, group: str) -> None:
    """See that a device here computes in that precision.

    Args:
        precision: "fp32" or "bf16".
        group: the parameters in which it stands, for the message.

    Raises:
        InputError: no device does.
    """
    from transformers.utils import is_torch_bf16_gpu_available

    if precision == "bf16" and not is_torch_bf16_gpu_available():
        raise InputError(
            f"parameter {group}.precision: there is no GPU here that computes in bf16; use fp32"
        )


def load_language_model(name: str, prompt: str = "chat_template") -> LanguageModel:
    """Load a model and its tokenizer from a folder or the hub, weights in fp32.

    The model is put on the accelerator where there is one.

    A folder with LoRA adapters is loaded on top of its base model, ready to be trained further.

    Args:
        name: folder or hub name.
        prompt: see ``prompts.set_prompt``.

    Raises:
        InputError: there is no model or no usable tokenizer under that name, or its folder holds
            what is not read (see ``model_folder.check_folder``).
    """
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer

    check_folder(name)
    gc.collect()  # a model trained in bfloat16 holds itself: never two of them in memory
    try:
        tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"{name}: no tokenizer there that transformers can read ({first_line(error)})"
        ) from None
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: the tokenizer has no end-of-sequence token")
    set_prompt(tokenizer, prompt)
    try:
        options = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": False}
        if Path(name, "adapter_config.json").is_file():
            from peft import AutoPeftModelForCausalLM

            model = AutoPeftModelForCausalLM.from_pretrained(name, is_trainable=True, **options)
        else:
            model = AutoModelForCausalLM.from_pretrained(name, **options)
    except (OSError, ValueError, SafetensorError) as error:
        raise InputError(f"{name}: no causal language model there ({first_line(error)})") from None
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    return LanguageModel(model.to(device), tokenizer)
