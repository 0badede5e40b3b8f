"""Models without memory for their weights, built from a configuration alone, to plan with.

A folder with a ``config.json`` is enough; of a hub name only that file is fetched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from closer_look.errors import InputError, first_line
from closer_look.models.base_model import adapter_settings, quantisation
from closer_look.models.model_folder import check_folder
from closer_look.models.rehearsal import rehearse
from closer_look.models.small_llama import small_llama_configuration

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

    from closer_look.parameters.models import BaseModelParameters

CHARACTERS = 4  # of a token, in English, where no tokenizer is at hand


def blueprint(base_model: BaseModelParameters, n_tokens: int) -> PreTrainedModel:
    """Build the base model on torch's device "meta", in fp32 as it will be trained.

    Args:
        base_model: names the model, or gives the sizes of a small Llama.
        n_tokens: the vocabulary of a small Llama, whose tokenizer may learn fewer than asked for.

    Raises:
        InputError: no causal language model can be built of its configuration, it is larger than a
            model may be, or its weights are quantised.
    """
    if base_model.small_llama:
        return _build(small_llama_configuration(base_model.small_llama, n_tokens))
    # Here, and not again in each copy of this process.
    import transformers.modeling_utils  # noqa: F401

    name = base_model.pretrained
    folders = check_folder(name)
    if quantised := quantisation(name):
        raise InputError(
            f"{name}: its weights are quantised ({quantised}), which a plan does not cover; name "
            f"the model before it was quantised"
        )
    try:
        adapters = adapter_settings(name)
        whole = str(adapters.get("base_model_name_or_path")) if adapters else name
        if folders:
            rehearse(folders, "config.json, to plan with it", lambda: _of_name(whole))
        return _of_name(whole)
    except InputError:
        raise
    except Exception as error:  # broken files raise anything
        raise InputError(
            f"{name}: no configuration of a causal language model there ({first_line(error)}); "
            f"name a folder that holds its config.json, or a model of the hub"
        ) from None


def _of_name(name: str) -> PreTrainedModel:
    from transformers import AutoConfig

    return _build(AutoConfig.from_pretrained(name, trust_remote_code=False))  # nosec B615


def _build(configuration: PreTrainedConfig) -> PreTrainedModel:
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoModelForCausalLM

    with init_empty_weights(include_buffers=True):
        model = AutoModelForCausalLM.from_config(configuration, dtype=torch.float32)
    model.tie_weights()
    return model


def rough_tokenizer(texts: list[str]) -> PreTrainedTokenizerBase:
    """Make a tokenizer that cuts texts every four characters, for where there is none.

    Equal pieces get equal numbers, so that rows share their beginnings as they will.
    """
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    unknown, end = "<unknown>", "<end>"
    cutter = Tokenizer(models.WordLevel(unk_token=unknown))
    cutter.pre_tokenizer = pre_tokenizers.Split(Regex(rf"[\s\S]{{1,{CHARACTERS}}}"), "isolated")
    cutter.train_from_iterator(
        texts, trainers.WordLevelTrainer(vocab_size=2**24, special_tokens=[unknown, end])
    )
    return PreTrainedTokenizerFast(tokenizer_object=cutter, eos_token=end, pad_token=end)
