"""Hidden states inside a model: the output of one of its decoder layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from torch.nn import ModuleList

from closer_look.errors import InputError
from closer_look.models.packing import layers_of, states_behind

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from transformers import PreTrainedModel

    from closer_look.models.tokens import Batch

PUBLISHED_LAYER, PUBLISHED_LAYERS = 7, 32  # of Zephyr-7b and Llama-2-7b


def layer_states(model: PreTrainedModel, batch: Batch, layer: int | None = None) -> Tensor:
    """Compute a layer's output at the predictors of a batch, (n, hidden size).

    The layers behind it do not run.

    Args:
        model: of any family with a list of decoder layers.
        batch: packed rows (see ``packing.pack``).
        layer: number of the layer, from 0; None for the one at 7/32 of the height.
    """
    decoder, name = _decoder(model)
    layers = getattr(decoder, name)
    number = layer_number(model, layer)
    seen = []

    def keep(module: Module, inputs: object, output: object) -> None:
        seen.append(output[0] if isinstance(output, tuple) else output)

    handle = layers[number].register_forward_hook(keep)
    try:
        with _cut(decoder, name, number + 1):
            return states_behind(model, batch, lambda _: seen.pop())
    finally:
        handle.remove()


@contextmanager
def hooked_layers(
    model: PreTrainedModel, function: Callable[[int, Tensor], Tensor]
) -> Iterator[None]:
    """Pass each decoder layer's output through a function; the model goes on with what it returns.

    Args:
        model: of any family with a list of decoder layers.
        function: (number of the layer, from 0; its output, (B, T, hidden size)) -> hidden states.
    """

    def hook(number: int, module: Module, inputs: object, output: Tensor | tuple) -> object:
        if isinstance(output, tuple):
            return (function(number, output[0]), *output[1:])
        return function(number, output)

    handles = [
        layer.register_forward_hook(partial(hook, number))
        for number, layer in enumerate(decoder_layers(model))
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def decoder_layers(model: PreTrainedModel) -> ModuleList:
    """Return a model's decoder layers.

    Raises:
        InputError: they cannot be told apart.
    """
    return getattr(*_decoder(model))


def layer_number(model: PreTrainedModel, layer: int | None) -> int:
    """Return the number of a layer, from 0: the given one, or that at 7/32 of the height.

    Raises:
        InputError: the model has fewer layers, or they cannot be told apart.
    """
    n_layers = len(decoder_layers(model))
    number = PUBLISHED_LAYER * n_layers // PUBLISHED_LAYERS if layer is None else layer
    if number >= n_layers:
        raise InputError(
            f"{_kind(model)} has no layer {layer}: its layers are numbered from 0 to {n_layers - 1}"
        )
    return number


def _decoder(model: PreTrainedModel) -> tuple[Module, str]:
    """Find the module that holds the list of decoder layers, and the list's name in it."""
    n_layers = model.config.get_text_config().num_hidden_layers
    embeddings = model.get_input_embeddings()
    for module in layers_of(model).modules():
        if any(one is embeddings for one in module.modules()):  # what sees or hears has none
            for name, child in module.named_children():
                if isinstance(child, ModuleList) and len(child) == n_layers:
                    return module, name
    raise InputError(
        f"{_kind(model)} has no list of {n_layers} layers, whose hidden states could be read; "
        f"leave out the methods and attacks that read them"
    )


def _kind(model: PreTrainedModel) -> str:
    return type(getattr(model, "get_base_model", lambda: model)()).__name__  # without adapters


@contextmanager
def _cut(decoder: Module, name: str, n_layers: int) -> Iterator[None]:
    """Leave a model only its first layers."""
    layers = getattr(decoder, name)
    setattr(decoder, name, layers[:n_layers])
    try:
        yield
    finally:
        setattr(decoder, name, layers)
