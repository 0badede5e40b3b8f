"""A step of a training, followed without numbers: what it keeps, and what it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from accelerate.utils import convert_to_fp32

from closer_look.models.hidden_states import decoder_layers
from closer_look.models.packing import PACKED, takes_packed_rows
from closer_look.system.tracing import Trace, traced

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

    from closer_look.parameters.training import OptimiserParameters
    from closer_look.training.combination import Combination


class Hardware(NamedTuple):
    """What decides how a step is made."""

    on_cpu: bool
    workers: int = 1
    sharded: bool = True
    """Whether each of the workers holds only its part of weights, gradients and moments."""

    @property
    def parts(self) -> int:
        """Into how many parts what is trained is cut."""
        return self.workers if self.sharded else 1


def rows_in_a_pass(settings: OptimiserParameters, hardware: Hardware) -> int:
    """Return how many rows a worker takes in one forward pass."""
    most = _rows_in_a_step(settings, hardware)
    return min(settings.micro_batch_size or most, most)


def _rows_in_a_step(settings: OptimiserParameters, hardware: Hardware) -> int:
    return -(-settings.batch_size // hardware.workers)


class Step(NamedTuple):
    """Bytes of a device, and arithmetic, of one pass of a step."""

    activations: int
    """What the backward pass needs, and all that lives for a moment."""
    gradients: int
    """All copies of them, before they are cut over devices."""
    trained: int
    """Of the weights that get a gradient."""
    flops: int


def follow(
    model: PreTrainedModel,
    compute_losses: Callable[[], Mapping[str, Tensor]],
    combination: Combination,
    settings: OptimiserParameters,
    hardware: Hardware,
    *,
    reads_logits: bool = True,
    frozen: Sequence[Tensor] = (),
) -> Step:
    """Follow a pass of a step, forward and backward, and how its gradients become one.

    Args:
        model: on the device "meta"; it is changed.
        compute_losses: the losses of the pass, by name.
        combination: makes one gradient of them.
        settings: of the training.
        hardware: where it runs.
        reads_logits: whether every loss does.
        frozen: weights beside the model's that the losses use.
    """
    model.train()
    if settings.gradient_checkpointing:
        model.activation_checkpointing_enable()
    if settings.precision == "bf16":  # as accelerate does it
        model.register_forward_hook(lambda *of_pass: convert_to_fp32(of_pass[-1]))
    if reads_logits and hardware.on_cpu and hardware.workers == 1:
        _leave_embeddings_out(model)
    accumulates = rows_in_a_pass(settings, hardware) < _rows_in_a_step(settings, hardware)
    scaled = accumulates or any(weight != 1 for weight in combination.weights.values())
    trace = Trace(numbers=float(scaled))
    trace.leave_out([*model.parameters(), *model.buffers(), *frozen])
    added, cut = combination.merge is None, hardware.parts > 1
    trained: dict[Tensor, int] = {}
    parts: list[Tensor] = []

    def note(parameter: Tensor) -> None:
        trained[parameter] = bytes_of([parameter])
        if added and (accumulates or cut):
            parameter.grad = None  # added to what is there from the pass before, or shared out
        if added and cut and not accumulates:
            parts.append(parameter.new_empty(-(-parameter.numel() // hardware.parts)))

    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.register_post_accumulate_grad_hook(note)
    combination.start_step()
    sent = decoder_layers(model).parameters() if cut else ()
    keeps_casts = not (settings.gradient_checkpointing and takes_packed_rows(model))
    with traced(trace, settings.precision, sent, keeps_casts) as end_autocast:
        losses = compute_losses()
        end_autocast()
        combination.total(losses, model.parameters()).backward()
        combination.end_step(losses)
    del losses
    size = sum(trained.values()) if added else trace.live
    counted = bytes_of(parts) if added and (accumulates or cut) else size  # in the trace
    activations = max(trace.peak - counted, 0)
    if hardware.parts > 1:
        activations += _put_together(model, settings)
    return Step(activations, size, sum(trained.values()), trace.flops)


def _leave_embeddings_out(model: PreTrainedModel) -> None:
    """Take tied embeddings apart: their own gradient is sparse (see ``tied_embeddings``)."""
    embeddings, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is not None and embeddings.weight is head.weight and head.weight.requires_grad:
        embeddings.weight = torch.nn.Parameter(head.weight.detach(), requires_grad=False)


def _put_together(model: PreTrainedModel, settings: OptimiserParameters) -> int:
    """Count the bytes of what is whole for a moment of a model that is shared out (FSDP2).

    That is a decoder layer, the next one, which is on its way, and what lies around the layers;
    and the gradients of a layer and of what lies around, until they are shared out.
    """
    layers = decoder_layers(model)
    of_layer = max(bytes_of(one.parameters()) for one in layers)
    around = bytes_of(model.parameters()) - bytes_of(layers.parameters())
    sent = of_layer // 2 if settings.precision == "bf16" else of_layer
    trains_all = all(one.requires_grad for one in model.parameters())
    return 2 * sent + around + (of_layer + around if trains_all else 0)


def prepared(model: PreTrainedModel) -> PreTrainedModel:
    """Let a model take packed rows, if it is of a kind that can."""
    if model.config._attn_implementation == "sdpa" and model._supports_attention_backend:
        model.set_attn_implementation(PACKED)
    return model


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Count the bytes of tensors."""
    return sum(one.numel() * one.element_size() for one in tensors)
