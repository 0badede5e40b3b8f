"""Passes over rows that fit into memory: the number of rows is halved until they do."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from closer_look.errors import InputError, first_line

if TYPE_CHECKING:
    from torch import nn

Row = TypeVar("Row")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether fewer rows in a pass may be the remedy."""
    return should_reduce_batch_size(error)


def halve_until_it_fits(
    work: Callable[[int], Result], n_rows: int, remark: str = "", advice: str = ""
) -> tuple[Result, int]:
    """Call a function; when memory runs out, call it again with half as many rows in a pass.

    Args:
        work: takes the number of rows in a pass. It must clear away what a failed attempt has left
            behind.
        n_rows: number of rows of the first attempt.
        remark: added to the log line about fewer rows.
        advice: added to the error if a single row does not fit.

    Returns:
        The result of ``work``, and the number of rows that fitted.

    Raises:
        InputError: a single row does not fit.
    """
    while True:
        try:
            return work(n_rows), n_rows
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = first_line(error)
        # Outside the except block: the error is gone, and the tensors that its traceback held.
        clear_device_cache(garbage_collection=True)
        if n_rows == 1:
            raise does_not_fit("a single row does", reason, advice)
        log.warning(
            "out of memory with %s rows in a pass; going on with %s%s", n_rows, n_rows // 2, remark
        )
        n_rows //= 2


@contextmanager
def out_of_memory_ends_the_run(
    what: str, advice: str = "", beside: str = "the model"
) -> Iterator[None]:
    """Turn an out-of-memory error into an ``InputError``: fewer rows in a pass would not help.

    Args:
        what: what has to fit, in the plural, for the message.
        advice: added to the message.
        beside: what else has to, for the message.

    Raises:
        InputError: memory runs out in the ``with`` block.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
        raise does_not_fit(f"{what} do", first_line(error), advice, beside) from None


def leave_device(model: nn.Module) -> None:
    """Move a model to the memory of the CPU, so that other processes have that of its device.

    The allocator would keep it for this process.
    """
    model.to("cpu")
    clear_device_cache(garbage_collection=True)


def in_passes(
    work: Callable[[Sequence[Row]], Result], rows: Sequence[Row], n_rows: int
) -> Iterator[tuple[Sequence[Row], Result]]:
    """Call a function on rows, pass after pass, in the order of the rows.

    Args:
        work: takes the rows of one pass.
        rows: all rows.
        n_rows: largest number of rows in a pass, halved when they do not fit into memory.

    Yields:
        The rows of a pass, and the result of ``work``.

    Raises:
        InputError: a single row does not fit.
    """
    while rows:
        n_rows = min(n_rows, len(rows))
        result, n_rows = halve_until_it_fits(partial(_on_first, work, rows), n_rows)
        yield rows[:n_rows], result
        rows = rows[n_rows:]


def does_not_fit(what: str, reason: str, advice: str, beside: str = "the model") -> InputError:
    """Make the error of what is too large, such as "a single row does"."""
    return InputError(
        f"out of memory: {what} not fit on this device with {beside} ({reason}){advice}"
    )


def _on_first(work: Callable[[Sequence[Row]], Result], rows: Sequence[Row], n_rows: int) -> Result:
    return work(rows[:n_rows])
