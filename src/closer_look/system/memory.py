"""As many rows in a pass as fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size

from closer_look.errors import InputError, first_line

Row = TypeVar("Row")
Result = TypeVar("Result")

log = logging.getLogger(__name__)


def halve_until_it_fits(
    work: Callable[[int], Result], n_rows: int, remark: str = "", advice: str = ""
) -> tuple[Result, int]:
    """Do a piece of work; out of memory, do it again with half as many rows in a pass.

    Args:
        work: takes the number of rows in a pass. What an attempt that failed has left behind is for
            the next one to clear away.
        n_rows: to begin with.
        remark: on going on with fewer rows, for the log.
        advice: on what to do where a single row does not fit, for the error.

    Returns:
        What the work gives, and the number of rows with which it was done.

    Raises:
        InputError: a single row does not fit.
    """
    while True:
        try:
            return work(n_rows), n_rows
        except RuntimeError as error:
            if not should_reduce_batch_size(error):
                raise
            reason = first_line(error)
        # Only here is the error gone, and with it the tensors that its traceback held.
        clear_device_cache(garbage_collection=True)
        if n_rows == 1:
            raise _does_not_fit("a single row does", reason, advice)
        log.warning(
            "out of memory with %s rows in a pass; going on with %s%s", n_rows, n_rows // 2, remark
        )
        n_rows //= 2


@contextmanager
def out_of_memory_ends_the_run(what: str, advice: str = "") -> Iterator[None]:
    """End the run with one line, out of memory that fewer rows in a pass would not spare.

    Args:
        what: has to fit, for the error.
        advice: on what to do, for the error.

    Raises:
        InputError: it does not fit.
    """
    try:
        yield
    except RuntimeError as error:
        if not should_reduce_batch_size(error):
            raise
        raise _does_not_fit(f"{what} do", first_line(error), advice) from None


def in_passes(
    work: Callable[[Sequence[Row]], Result], rows: Sequence[Row], n_rows: int
) -> Iterator[tuple[Sequence[Row], Result]]:
    """Work on rows, pass after pass, in an order that does not change.

    Args:
        work: on the rows of one pass.
        rows: all of them.
        n_rows: in a pass, at most; halved where they do not fit into memory.

    Yields:
        The rows of a pass and what the work gave.

    Raises:
        InputError: a single row does not fit.
    """
    while rows:
        n_rows = min(n_rows, len(rows))
        result, n_rows = halve_until_it_fits(partial(_on_first, work, rows), n_rows)
        yield rows[:n_rows], result
        rows = rows[n_rows:]


def _does_not_fit(what: str, reason: str, advice: str) -> InputError:
    return InputError(
        f"out of memory: {what} not fit on this device beside the model ({reason}){advice}"
    )


def _on_first(work: Callable[[Sequence[Row]], Result], rows: Sequence[Row], n_rows: int) -> Result:
    return work(rows[:n_rows])
