"""The model and its tokenizer, as every stage passes them on, and how they are loaded."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from weakref import WeakSet

from closer_look.errors import InputError, first_line, quote
from closer_look.models.base_model import adapter_settings, check_quantisation, compute_exactly
from closer_look.models.declared_size import check_declared_size
from closer_look.models.model_folder import check_folder
from closer_look.models.prompts import set_prompt
from closer_look.models.tokenizer_files import check_tokenizer
from closer_look.parameters.models import PromptParameters
from closer_look.system.fingerprints import file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

WITHOUT_EFFECT = (
    *("_name_or_path", "base_model_name_or_path", "transformers_version", "peft_version"),
    *("architectures", "auto_mapping", "dtype", "inference_mode"),
)
"""Parts of a configuration that a model's outputs do not follow from, beside its weights. They
differ between a model that was made and the same one as it is loaded."""
WHO_HAS_IT = "; nvidia-smi names the programs that use it, --pipelines plan tells what a run takes"
_LOADED: WeakSet[PreTrainedModel] = WeakSet()  # those that are still in memory
SPARE_BYTES = 64 * 2**20  # for the tokenizer, the configuration and the run's other files


class LanguageModel(NamedTuple):
    """A causal language model with its tokenizer.

    The tokenizer's chat template turns a question into a prompt (see ``prompts``). It is saved with
    the tokenizer, so a model keeps its prompt.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


class PretrainedModel(NamedTuple):
    """A pretrained model, by its name: a run reads it where it is and never copies it."""

    name: str
    prompt: str
    settings: PromptParameters = PromptParameters()


def check_precision(precision: str, group: str) -> None:
    """Check that a device of this machine computes in the given precision.

    Args:
        precision: "fp32" or "bf16".
        group: name of the parameter group, for the message.

    Raises:
        InputError: no device does.
    """
    from transformers.utils import is_torch_bf16_gpu_available

    if precision == "bf16" and not is_torch_bf16_gpu_available():
        raise InputError(
            f"parameter {group}.precision: no GPU of this machine supports bf16; use fp32"
        )


def model_kind(model: PreTrainedModel) -> tuple[str, str]:
    """Return what models of one architecture and size share, whatever their weights."""
    # PyTorch derives a class of that name for a model whose weights it shares out (FSDP2).
    return type(model).__name__.removeprefix("FSDP"), model.config.to_json_string()


def model_fingerprint(language_model: LanguageModel) -> str:
    """Hash a model's weights (adapters included) and vocabulary."""
    import torch

    model, tokenizer = language_model
    digest = hashlib.sha256()
    for name, weights in model.state_dict().items():  # detached: no autograd
        digest.update(f"{name} {tuple(weights.shape)} {weights.dtype}\n".encode())
        digest.update(weights.contiguous().flatten().view(torch.uint8).cpu().numpy())
    digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    return digest.hexdigest()


def computation_fingerprint(language_model: LanguageModel) -> str:
    """Hash what a model's outputs follow from: its fingerprint, and its configuration.

    Ledgers name models by ``model_fingerprint``, which therefore stays as it is.
    """
    model, _ = language_model
    adapters = getattr(model, "peft_config", {})
    configurations = [one.to_dict() for one in (model.config, *adapters.values())]
    described = json.dumps(
        [_with_effect(one) for one in configurations], sort_keys=True, default=sorted
    )
    return hashlib.sha256(f"{model_fingerprint(language_model)} {described}".encode()).hexdigest()


def _with_effect(configuration: Mapping[str, object]) -> dict[str, object]:
    return {
        name: _with_effect(value) if isinstance(value, dict) else value
        for name, value in configuration.items()
        if name not in WITHOUT_EFFECT
    }


def saved_bytes(model: PreTrainedModel) -> int:
    """Count the bytes that ``save_pretrained`` writes: adapters only, if the model has any."""
    adapter = [p for name, p in model.named_parameters() if "lora_" in name]
    return sum(p.numel() * p.element_size() for p in adapter or model.parameters())


def check_weights(folder: str, sha256: str) -> None:
    """Check the SHA-256 of the weights in a folder.

    Args:
        folder: holds ``model.safetensors``.
        sha256: expected hash of that file, in hexadecimal digits.

    Raises:
        InputError: the hash differs, or the file is missing.
    """
    weights = Path(folder, "model.safetensors")
    if not weights.is_file():
        raise InputError(
            f"parameter base_model.sha256: {weights} is missing; "
            f"set base_model.sha256=null to take any model"
        )
    digest = file_sha256(weights)
    if digest != sha256:
        raise InputError(
            f"parameter base_model.sha256: {weights} is another file, with {digest}; "
            f"set base_model.sha256=null to take any model"
        )


def check_complete(name: str, found: Mapping[str, Collection[str]]) -> None:
    """Check that a model's files held all its weights: transformers fills missing ones at random.

    Args:
        name: name of the model, for the message.
        found: loading info of transformers (``output_loading_info=True``).

    Raises:
        InputError: weights are missing; the message names the first.
    """
    missing = sorted(found["missing_keys"])
    if missing:
        raise InputError(f"{name}: {len(missing)} of its weights are missing, such as {missing[0]}")


def load_tokenizer(
    name: str, prompt: str = "chat_template", settings: PromptParameters | None = None
) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model, without its weights; see ``load_language_model``."""
    from transformers import AutoTokenizer

    check_folder(name)
    try:  # the user chose the folder or name: there is no revision to pin
        check_tokenizer(name)
        tokenizer = AutoTokenizer.from_pretrained(  # nosec B615
            name, trust_remote_code=False
        )
    except InputError:
        raise
    except Exception as error:  # broken files raise anything
        raise InputError(
            f"{name}: no tokenizer there that transformers can read ({first_line(error)})"
        ) from None
    if tokenizer.eos_token_id is None:
        raise InputError(f"{name}: the tokenizer has no end-of-sequence token")
    set_prompt(tokenizer, prompt, settings)
    return tokenizer


def load_language_model(
    name: str, prompt: str = "chat_template", settings: PromptParameters | None = None
) -> LanguageModel:
    """Load a model and its tokenizer from a folder or the hub, weights in fp32.

    The model is moved to the accelerator if there is one. LoRA adapters are loaded on top of their
    base model and stay trainable. Quantised weights stay as they are.

    Args:
        name: folder or hub name.
        prompt: see ``prompts.set_prompt``.
        settings: of the prompts; see there.

    Raises:
        InputError: there is no model or no usable tokenizer under that name, weights are missing,
            its folder holds pickles, code or links (see ``model_folder.check_folder``), its
            configuration asks for more (see ``declared_size``), they are quantised in a way that is
            not supported (see ``base_model``), or the device has no room for them.
    """
    import torch
    from transformers import AutoModelForCausalLM

    from closer_look.system.memory import out_of_memory_ends_the_run

    tokenizer = load_tokenizer(name, prompt, settings)
    if _LOADED:  # perhaps as garbage: a model trained in bf16 is a reference cycle
        gc.collect()
    check_quantisation(name)
    try:
        check_declared_size(name, AutoModelForCausalLM)
        adapters = adapter_settings(name) or {}
        if adapters.get("task_type") not in (None, "CAUSAL_LM"):
            raise ValueError(f"adapters for {quote(adapters['task_type'])}")
        model, found = AutoModelForCausalLM.from_pretrained(  # nosec B615
            adapters.get("base_model_name_or_path", name),
            revision=adapters.get("revision"),
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
        if adapters:
            from peft import PeftModelForCausalLM

            # AutoPeftModel would add an embedding for each token that the model has none for.
            model = PeftModelForCausalLM.from_pretrained(model, name, is_trainable=True)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"{name}: no causal language model there ({first_line(error)})") from None
    check_complete(name, found)
    compute_exactly(model)
    _LOADED.add(model.get_base_model() if adapters else model)
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    with out_of_memory_ends_the_run(f"the weights of {name}", WHO_HAS_IT, "what is on it"):
        return LanguageModel(model.to(device), tokenizer)


def load_pretrained(pretrained: PretrainedModel) -> LanguageModel:
    """Load the model that a run starts from or measures, with its adapters merged into its weights.

    All its weights can then be trained. Adapters on quantised weights stay apart: see
    ``export.check_export``.

    Raises:
        InputError: see ``load_language_model``.
    """
    from peft import PeftModel

    model, tokenizer = load_language_model(*pretrained)
    if isinstance(model, PeftModel) and not getattr(model, "is_quantized", False):
        model = model.merge_and_unload().requires_grad_(True)
    return LanguageModel(model, tokenizer)
