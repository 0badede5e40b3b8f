"""Work of foreign code within limits of time and memory, in a child process."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import TypeVar

import psutil

Result = TypeVar("Result")

ON_A_BUSY_MACHINE = 5  # times as many seconds of the clock, before the child is given up


class LimitExceededError(Exception):
    """The work took more time or memory than it may; the message says which."""


def within_limits(work: Callable[[], Result], seconds: int, n_bytes: int) -> Result:
    """Do work in a copy of this process, which ends if it takes too much.

    Where processes cannot be copied (Windows, macOS), the work is done here, without limits.

    Args:
        work: its result can be pickled; what else it changes is lost.
        seconds: of processor time, and about as many of the clock.
        n_bytes: of memory, beyond what this process has.

    Raises:
        LimitExceededError: the work took too much.
        Exception: what the work raised.
    """
    if not psutil.LINUX:
        return work()
    fork = multiprocessing.get_context("fork")
    receiver, sender = fork.Pipe(duplex=False)
    process = fork.Process(target=_limited, args=(sender, work, seconds, n_bytes), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(ON_A_BUSY_MACHINE * seconds):
            raise LimitExceededError(f"takes more than {seconds} seconds")
        result, error = receiver.recv()
    except EOFError:  # the system has ended the child
        process.join()
        if process.exitcode in (-signal.SIGXCPU, -signal.SIGKILL):
            raise LimitExceededError(f"takes more than {seconds} seconds") from None
        result, error = None, MemoryError()  # code that is not Python's gave up
    finally:
        process.kill()
        process.join()
        receiver.close()
    if isinstance(error, MemoryError):
        raise LimitExceededError(f"takes more than {n_bytes / 2**20:,.0f} MB of memory")
    if error is not None:
        raise error
    return result


def _limited(sender: Connection, work: Callable[[], Result], seconds: int, n_bytes: int) -> None:
    import resource

    size = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (size + n_bytes, size + n_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)  # others of the parent are not here, and would be waited for
    faulthandler.disable()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what foreign code prints as it fails
    try:
        answer = (work(), None)
    except Exception as error:
        answer = (None, error)
    sender.send(answer)
