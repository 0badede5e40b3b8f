"""Computations without numbers: the memory and the arithmetic that they take are counted.

Torch's device "meta" has shapes and no storage. What runs on it is the code that will run later,
with whatever it keeps for its backward pass; so nothing has to be known of a model or a loss.
"""

from __future__ import annotations

import weakref
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_map_only
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

aten = torch.ops.aten
ATTENTION = aten._scaled_dot_product_flash_attention_for_cpu.default
ATTENTION_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
TAKES_MASKS = (aten.index.Tensor, aten.index_put.default, aten._index_put_impl_.default)
REAL_ATTENTION, REAL_LINEAR = functional.scaled_dot_product_attention, functional.linear
REAL_AUTOCAST = torch.autocast


class Trace(TorchDispatchMode):
    """Counts the bytes that live at a time, and the floating-point operations, of what runs inside.

    Only tensors made inside a ``with traced()`` block count, not the weights of a model. Tensors
    with numbers, such as token ids, may be mixed with those without.
    """

    def __init__(self, numbers: float = 1.0) -> None:
        """Set up.

        Args:
            numbers: what stands for a number where code asks for one; 0 is also false, 1 true.
        """
        super().__init__()
        self.numbers = numbers
        self.live = 0
        """Bytes that live now."""
        self.peak = 0
        """The most bytes that lived at a time."""
        self.flops = 0
        """Floating-point operations of matrix products, two for each multiplication."""
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def leave_out(self, tensors: Iterable[Tensor]) -> None:
        """Do not count tensors that were there before, nor views of them."""
        self._known.update(one.untyped_storage() for one in tensors)

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Run an operation, and count it."""
        kwargs = kwargs or {}
        given = [*_tensors((*args, *kwargs.values()))]
        if any(one.is_meta for one in given):
            if function is aten._local_scalar_dense.default:
                return self.numbers
            if function in TAKES_MASKS:
                args = (args[0], _as_numbers(args[1]), *args[2:])
            if not all(one.is_meta for one in given):
                args, kwargs = tree_map_only(torch.Tensor, _without_numbers, (args, kwargs))
        outputs = function(*args, **kwargs)
        self._count_flops(function, args, kwargs, outputs)
        for one in _tensors((outputs,)):
            if one.is_meta:
                self._count_bytes(one.untyped_storage())
        return outputs

    def _count_bytes(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._forget, size)

    def _forget(self, size: int) -> None:
        self.live -= size

    def _count_flops(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], outputs: Any
    ) -> None:
        if function is ATTENTION:
            self.flops += sdpa_flop_count(*(one.shape for one in args[:3]))
        elif function is ATTENTION_BACKWARD:
            self.flops += sdpa_backward_flop_count(*(one.shape for one in args[:4]))
        elif function.overloadpacket in flop_registry:
            formula = flop_registry[function.overloadpacket]
            self.flops += formula(*args, **kwargs, out_val=outputs)


@contextmanager
def traced(
    trace: Trace,
    precision: str = "fp32",
    sent: Iterable[Tensor] = (),
    keeps_casts: bool = True,
) -> Iterator[Callable[[], None]]:
    """Trace what runs in the block, with attention and precision as on a real device.

    Args:
        trace: counts.
        precision: "fp32", or "bf16" for linear layers as under autocast.
        sent: weights of which devices get halves from each other: casts of them do not count.
        keeps_casts: whether autocast keeps the halves of weights while it lasts.

    Yields:
        What to call where autocast ends, after the forward pass.
    """
    half = _HalfLinear(trace, sent)
    if not keeps_casts:
        half.end_autocast()
    linear = half if precision == "bf16" else REAL_LINEAR
    # No TorchFunctionMode: it is off while a backward pass computes layers again.
    instead = (
        (functional, "scaled_dot_product_attention", _attention, REAL_ATTENTION),
        (functional, "linear", linear, REAL_LINEAR),
        (torch, "autocast", _autocast, REAL_AUTOCAST),
    )
    for module, name, function, _ in instead:
        setattr(module, name, function)
    try:
        with trace:
            yield half.end_autocast
    finally:
        for module, name, _, real in instead:
            setattr(module, name, real)


def _autocast(device_type: str, *args: Any, **kwargs: Any) -> Any:
    """Stand for autocast, which does not know the device "meta"."""
    is_meta = device_type == "meta"
    return nullcontext() if is_meta else REAL_AUTOCAST(device_type, *args, **kwargs)


class _HalfLinear:
    """A linear layer as under autocast, which casts a trained weight once, and keeps the cast."""

    def __init__(self, trace: Trace, sent: Iterable[Tensor]) -> None:
        self.trace = trace
        self.sent = {id(one) for one in sent}
        self.casts: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()
        self.kept: list[Tensor] | None = []

    def __call__(self, states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return REAL_LINEAR(self._cast(states), self._cast(weight), self._cast(bias))

    def end_autocast(self) -> None:
        """Leave casts to those who need them: a layer that is computed again has its own."""
        self.kept = None

    def _cast(self, tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        if id(tensor) in self.sent:
            with _disable_current_modes():
                found = tensor.to(torch.bfloat16)
            self.trace.leave_out([found])
            return found
        found = self.casts.get(id(tensor))
        if found is None:
            found = tensor.to(torch.bfloat16)
            if tensor.is_leaf and tensor.requires_grad:
                self.casts[id(tensor)] = found
                if self.kept is not None:
                    self.kept.append(found)
        return found


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    """Walk through the tensors of an operation; torch's own trees would take as long as it."""
    for one in values:
        if isinstance(one, torch.Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from _tensors(one)


def _without_numbers(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else tensor.to("meta")


def _as_numbers(indices: Iterable[Tensor | None]) -> list[Tensor | None]:
    """Turn boolean masks into the numbers of what they choose: without numbers, all of it."""
    found: list[Tensor | None] = []
    for one in indices:
        if one is None or one.dtype != torch.bool:
            found.append(one)
        else:
            found += (torch.ones(one.shape, dtype=torch.bool) if one.is_meta else one).nonzero().T
    return found


def _attention(query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """Stand for attention: on "meta", torch itself has no fused one."""
    if query.is_meta and query.shape[-1] == key.shape[-1] == value.shape[-1]:
        return _fused_attention(query, key, value, *args, **kwargs)
    return REAL_ATTENTION(query, key, value, *args, **kwargs)


def _fused_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    if attn_mask is not None:
        attn_mask = torch.empty(attn_mask.shape, dtype=query.dtype, device="meta")
    output, _ = ATTENTION(query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale)
    return output
