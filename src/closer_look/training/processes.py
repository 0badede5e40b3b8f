"""What the processes of one training tell each other; alone, a process agrees with itself.

Every process goes through the same plan in the same order, and computes its part of a step's rows.
They form the default group of ``torch.distributed``. The Trainer knows nothing of it: it would
share the rows out itself, and average losses over processes instead of over a step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.distributed as dist

from closer_look.models.tokens import Tokens

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Parameter

Row = TypeVar("Row", bound=Mapping[str, object])
Value = TypeVar("Value")


def n_processes() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def device() -> torch.device:
    """Return the device on which the processes compute: a GPU where NCCL connects them."""
    if dist.get_backend() == "nccl":
        return torch.accelerator.current_accelerator()
    return torch.device("cpu")


def part_of(rows: Sequence[Row]) -> list[Row]:
    """Return the rows of a step that this process computes, in their order.

    The longest are dealt out first, so that all processes have about as many tokens. A process may
    get none.
    """

    def n_tokens(index: int) -> int:
        return sum(len(one) for one in rows[index].values() if isinstance(one, Tokens))

    longest_first = sorted(range(len(rows)), key=n_tokens, reverse=True)
    return [rows[index] for index in sorted(longest_first[rank() :: n_processes()])]


def largest_part(n_rows: int) -> int:
    """Return how many of a step's rows the process with the most of them has."""
    return -(-n_rows // n_processes())


def is_true_anywhere(flag: bool) -> bool:
    """Return whether a flag is true in any process."""
    if n_processes() == 1:
        return flag
    seen = torch.tensor(int(flag), device=device())
    dist.all_reduce(seen, dist.ReduceOp.MAX)
    return bool(seen)


def of_first(value: Value) -> Value:
    """Return what the first process has; others may give anything."""
    if n_processes() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def from_all(value: Value) -> list[Value]:
    """Return what every process has, in the order of their ranks."""
    if n_processes() == 1:
        return [value]
    values: list[Value] = [value] * n_processes()
    dist.all_gather_object(values, value)
    return values


def summed(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Add up scalars over the processes."""
    if n_processes() == 1:
        return dict(values)
    total = torch.stack([values[name].detach() for name in values])
    dist.all_reduce(total)
    return dict(zip(values, total, strict=True))


def sum_gradients(
    trained: Iterable[Parameter], gradients: Mapping[Parameter, Tensor]
) -> dict[Parameter, Tensor]:
    """Add up the gradients of whole weights over the processes, in place.

    A weight that got no gradient in any process has none afterwards, so that the optimiser leaves
    it alone, as it does in one process.
    """
    trained = list(trained)
    has_one = torch.tensor([one in gradients for one in trained], dtype=torch.int, device=device())
    dist.all_reduce(has_one, dist.ReduceOp.MAX)
    added = {}
    for parameter, is_there in zip(trained, has_one.tolist(), strict=True):
        if is_there:
            gradient = gradients.get(parameter)
            added[parameter] = torch.zeros_like(parameter) if gradient is None else gradient
            dist.all_reduce(added[parameter])
    return added


@contextmanager
def own_randomness(seed: int) -> Iterator[None]:
    """Draw other random numbers inside the block than other processes do, such as dropout's.

    The first process goes on with its own, as if it were alone. In the others, the block leaves no
    trace: they are to draw the same order of rows as the first.

    Args:
        seed: of this block; the rank is added to it.
    """
    if rank() == 0:
        yield
        return
    with torch.random.fork_rng():
        torch.manual_seed(seed + rank())
        yield
