"""What a configuration asks for is held against the weights, before anything of it is built.

A few bytes can ask for any number of layers. So the model is built without memory for its weights
(on torch's device "meta") in a copy of this process, and counted as it grows. That holds for every
family that transformers knows, whatever it calls its sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from closer_look.errors import InputError
from closer_look.models.base_model import adapter_settings, quantisation
from closer_look.models.model_folder import check_folder
from closer_look.models.rehearsal import rehearse
from closer_look.models.weights_files import read_headers

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

SPARE = 2**27  # weights that a model may have beyond those in its files, such as a pooler: 0.5 GB
REGISTERED = 4  # how often a weight may be named while a model is built, before copies are tied
LARGEST = {"max_seq_len": 2**24, "chunk_size": 2**11, "mamba_chunk_size": 2**11}
"""Sizes that no weight has: a pass of MPT, or of Mamba, makes a table of them."""


class _TooManyError(Exception):
    pass


def check_declared_size(name: str, kind: type) -> None:
    """Check that a model is no larger than its weights, and so the adapters on it.

    Args:
        name: folder; of a hub name nothing is looked at.
        kind: class of transformers that builds the model, such as ``AutoModelForCausalLM``.

    Raises:
        InputError: it is larger, takes too much to be built, or the headers of its weights lie.
        ValueError: nothing can be built of the configuration.
    """
    folders = check_folder(name)
    if not folders:
        return
    # Here, and not again in each copy of this process, out of its seconds.
    import transformers.modeling_utils  # noqa: F401

    if adapter_settings(name):
        import peft  # noqa: F401
    weights = read_headers(folders)
    is_packed = any(map(quantisation, folders))  # as little as a bit for a weight
    most = SPARE + (8 * weights.n_bytes if is_packed else weights.n_values)

    def build() -> None:
        try:
            _build(name, kind, most)
        except _TooManyError:
            raise InputError(
                f"{name}: config.json asks for a model of more than {most:,} weights, the "
                f"safetensors files hold {weights.n_values:,}; they are not of one model"
            ) from None

    rehearse(folders, f"config.json as {kind.__name__}", build)


def _build(name: str, kind: Any, most: int) -> None:
    import torch
    from transformers import AutoConfig

    adapters = adapter_settings(name)
    base = str(adapters.get("base_model_name_or_path")) if adapters else name
    if not Path(base).is_dir():
        return
    config = AutoConfig.from_pretrained(base, trust_remote_code=False)  # nosec B615
    for size, largest in LARGEST.items():
        if isinstance(found := getattr(config.get_text_config(), size, 0), int) and found > largest:
            raise InputError(f"{base}: {size} in config.json is {found:,}, more than {largest:,}")
    with torch.device("meta"), _counted(REGISTERED * most):
        model = kind.from_config(config)
        model.tie_weights()
        _check_number(model, most)
        if adapters:
            from peft import PeftConfig, PeftModel

            with suppress(ValueError, TypeError, RuntimeError, AttributeError):  # PEFT says it
                model = PeftModel(model, PeftConfig.from_pretrained(name))
            _check_number(model, most)


def _check_number(model: PreTrainedModel, most: int) -> None:
    if sum(one.numel() for one in (*model.parameters(), *model.buffers())) > most:
        raise _TooManyError


@contextmanager
def _counted(most: int) -> Iterator[None]:
    """Stop as soon as modules have been given more weights than that."""
    from torch.nn.modules import module as modules

    n_values = 0

    def count(_module: object, _name: str, tensor: Tensor | None) -> None:
        nonlocal n_values
        n_values += 0 if tensor is None else tensor.numel()
        if n_values > most:
            raise _TooManyError

    hooks = (
        modules.register_module_parameter_registration_hook(count),
        modules.register_module_buffer_registration_hook(count),
    )
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
