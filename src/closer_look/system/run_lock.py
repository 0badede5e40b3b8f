"""The lock of a run: only one process at a time works on a run of a name."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from closer_look.errors import InputError
from closer_look.system.remote_lock import RemoteLock
from closer_look.system.storage import is_url

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of some network file systems
HELD_BY_PARENT = "CLOSER_LOOK_LOCKED"  # environment variable: path of a lock the parent holds


def lock_run(folder: Path | str) -> FileLock | RemoteLock | None:
    """Acquire the lock of a run; the system releases it if the process dies.

    Args:
        folder: folder of the run's reports, which holds the lock file; or its URL, where the next
            run takes over the lock of a process that died (see ``remote_lock``).

    Returns:
        The lock; None if the parent process holds it, or if the file system has no locks, which is
        logged.

    Raises:
        InputError: another process holds it, or the URL cannot be used.
    """
    if is_url(folder):
        return RemoteLock(folder)
    path = _path(folder)
    if os.environ.get(HELD_BY_PARENT) == str(path):
        return None
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path, blocking=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise InputError(
            f"another process is working on run '{folder.name}'; wait until it has ended, or give "
            f"this run another name: --params run=NAME"
        ) from None
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        log.warning(
            "The file system of %s has no locks (%s): nothing keeps a second process from working "
            "on run '%s'; see that there is none",
            folder,
            error.strerror,
            folder.name,
        )
        return None
    return lock


@contextmanager
def locked_for_children(folder: Path) -> Iterator[None]:
    """Hold the lock for child processes, which share the work of the run without overlap."""
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
