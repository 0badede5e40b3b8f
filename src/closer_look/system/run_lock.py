"""One run of a name at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from closer_look.errors import InputError

HELD_BY_PARENT = "CLOSER_LOOK_LOCKED"  # in the environment: path of a lock that the caller holds


def lock_run(folder: Path) -> FileLock | None:
    """Take the lock of the run whose reports are in the folder; a process that dies lets go of it.

    Returns:
        The lock, or None if the process was started by one that holds it.

    Raises:
        InputError: another process has it.
    """
    path = _path(folder)
    if os.environ.get(HELD_BY_PARENT) == str(path):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process is at work on run '{folder.name}'; wait until it has ended, or give "
            f"this one another name: --params run=NAME"
        ) from None
    return lock


@contextmanager
def locked_for_children(folder: Path) -> Iterator[None]:
    """Hold the lock for processes that this one starts, which share the work without overlap."""
    lock = lock_run(folder)
    os.environ[HELD_BY_PARENT] = str(_path(folder))
    try:
        yield
    finally:
        del os.environ[HELD_BY_PARENT]
        if lock:
            lock.release()


def _path(folder: Path) -> Path:
    return folder.absolute() / "run.lock"
