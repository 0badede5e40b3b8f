"""The lock of a run: only one process at a time works on a run of a name."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from filelock import FileLock, Timeout

from closer_look.errors import InputError
from closer_look.system.remote_lock import RemoteLock
from closer_look.system.storage import is_url

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of some network file systems


def lock_run(folder: Path | str) -> FileLock | RemoteLock | None:
    """Acquire the lock of a run; the system releases it if the process dies.

    Args:
        folder: folder of the run's reports, which holds the lock file; or its URL, where the next
            run takes over the lock of a process that died (see ``remote_lock``).

    Returns:
        The lock; None if the file system has no locks, which is logged.

    Raises:
        InputError: another process holds it, or the URL cannot be used.
    """
    if is_url(folder):
        return RemoteLock(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "run.lock", blocking=False, fallback_to_soft=False)
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
