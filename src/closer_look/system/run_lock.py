"""The lock of a run: only one process at a time works on a run of a name."""

from __future__ import annotations

import errno
import logging
from pathlib import Path

from filelock import FileLock, Timeout

from closer_look.errors import InputError

log = logging.getLogger(__name__)

NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # of some network file systems


def lock_run(folder: Path) -> FileLock | None:
    """Acquire the lock of a run; the system releases it if the process dies.

    Args:
        folder: folder of the run's reports, which holds the lock file.

    Returns:
        The lock; None if the file system has no locks, which is logged.

    Raises:
        InputError: another process holds it.
    """
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
