"""A model whose weights, gradients and moments are shared out over the processes (FSDP2).

Each process holds a part of every weight; a decoder layer is put together for the moment in which
it computes. What is saved is whole: states of a sharded model and of its optimiser are as they
would be in one process, so that a training can go on with another number of processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MethodType
from typing import TYPE_CHECKING, Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from closer_look.models.hidden_states import decoder_layers
from closer_look.models.packing import packed_attention
from closer_look.models.tokens import longest_text
from closer_look.training.processes import device, n_processes, rank

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module
    from torch.optim import Optimizer
    from transformers import PreTrainedModel

    from closer_look.parameters.training import OptimiserParameters


class OutOfMemory(Exception):
    """Memory ran out in one process; the others wait for it, and all have to start again."""

    def __init__(self, reason: str, n_rows: int) -> None:
        super().__init__(reason)
        self.n_rows = n_rows
        """In the pass."""


def share_out(
    model: PreTrainedModel, parameters: OptimiserParameters, rows: Sequence[Mapping[str, object]]
) -> None:
    """Bring a model to the device of each process, in place: its part, or all of it.

    Args:
        model: the same in every process, its weights in fp32.
        parameters: say which.
        rows: that it will be trained on.
    """
    if n_processes() == 1:
        return
    with packed_attention(model, longest_text(rows)):
        pass  # tried out with whole weights in fp32; what comes of it is remembered
    if parameters.sharding == "full":
        shard(model, parameters.precision)
    else:
        model.to(device())


def shard(model: PreTrainedModel, precision: str) -> None:
    """Share a model's weights out, in place, on the device of each process.

    Args:
        model: the same in every process, its weights in fp32.
        precision: of the layers' arithmetic; in "bf16", they are also sent as such.
    """
    mesh = init_device_mesh(device().type, (n_processes(),))
    # What lies between the layers stays in fp32, as under autocast in one process.
    half = MixedPrecisionPolicy(
        torch.bfloat16 if precision == "bf16" else None, torch.float32, cast_forward_inputs=False
    )
    for layer in decoder_layers(model):
        fully_shard(layer, mesh=mesh, mp_policy=half)
    # What lies around the layers, too, after each pass: ``parameters()`` are parts at all times.
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # A part's loss is its share of the step's already: gradients add up.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    model.run_part = MethodType(_run_part, model)
    register_fsdp_forward_method(model, "run_part")
    model.register_state_dict_post_hook(_make_whole)
    model.register_load_state_dict_pre_hook(_take_parts)


def is_sharded(model: Module) -> bool:
    """Return whether a model's weights are shared out."""
    return isinstance(model, FSDPModule)


def trained_weights(model: Module) -> dict[str, Tensor]:
    """Return the whole trained weights on the CPU; of the first process, each has to call this."""
    return {
        name: _kept(one.detach()) for name, one in model.named_parameters() if one.requires_grad
    }


def shard_states(optimiser: Optimizer) -> None:
    """Let an optimiser of sharded weights write whole states, and read them."""
    optimiser.register_state_dict_post_hook(_make_states_whole)
    optimiser.register_load_state_dict_pre_hook(_take_parts_of_states)


def whole(tensor: Tensor) -> Tensor:
    """Put a tensor together from the parts of all processes; each has to call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole_of(part: Tensor, like: Tensor) -> Tensor:
    """Put a tensor together that is shared out as another one is."""
    if not isinstance(like, DTensor):
        return part
    given = part.to(like.to_local().device)
    return DTensor.from_local(
        given, like.device_mesh, like.placements, shape=like.shape, stride=like.stride()
    ).full_tensor()


def as_parts(tensor: Tensor, like: Tensor) -> Tensor:
    """Share a whole tensor, which every process has, out as another one is."""
    if not isinstance(like, DTensor) or isinstance(tensor, DTensor):
        return tensor
    tensor = tensor.to(like.to_local().device)
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def _run_part(model: PreTrainedModel, module: Module, **inputs: Any) -> Any:
    """Run a part of a model with the weights around its layers put together."""
    return module(**inputs)


def _make_whole(model: Module, state: dict[str, Any], *_: object) -> None:
    """Put a state together, weight after weight, in the memory of the first process alone."""
    seen: dict[int, Tensor] = {}  # tied weights stay one
    for name, value in state.items():
        place = part(value).untyped_storage()._cdata
        if place not in seen:
            seen[place] = _kept(value)
        state[name] = seen[place]


def _take_parts(model: Module, state: dict[str, Any], *_: object) -> None:
    own = dict(model.named_parameters(remove_duplicate=False))
    for name in state.keys() & own.keys():
        state[name] = as_parts(state[name], own[name])


def _make_states_whole(optimiser: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    of_weights = {
        number: {name: _kept(value) for name, value in of_weight.items()}
        for number, of_weight in state["state"].items()
    }
    return state | {"state": of_weights}


def _take_parts_of_states(optimiser: Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    weights = [one for group in optimiser.param_groups for one in group["params"]]
    of_weights = {
        number: {
            name: as_parts(value, weights[number]) if value.dim() else value
            for name, value in of_weight.items()
        }
        for number, of_weight in state["state"].items()
    }
    return state | {"state": of_weights}


def _kept(tensor: Tensor) -> Tensor:
    found = whole(tensor)
    return found.cpu() if rank() == 0 else found.new_empty(0)
