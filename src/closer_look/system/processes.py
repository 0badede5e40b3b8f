"""Half-written files in a folder that several processes share, also those of other machines."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import psutil

PARTIAL = ".partial"
LONGEST_SECONDS = 24 * 3600  # that a file of another machine may take to be written


def here() -> str:
    """Name what this process shares the numbers of processes with.

    That is this machine since its start, or a container on it, which may have the host's name.
    """
    parts = [socket.gethostname()]
    with suppress(OSError):  # only Linux tells
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip())
        parts.append(str(Path("/proc/self/ns/pid").stat().st_ino))
    return "-".join(parts)


def partial_of(path: Path) -> Path:
    """Return a new name under which this process writes a file until it is whole."""
    return path.with_name(f"{path.name}.{uuid4().hex[:8]}.{here()}.{os.getpid()}{PARTIAL}")


def is_being_written(partial: Path) -> bool:
    """Return whether the process that writes a file may still be at work.

    Of processes of another machine or container only the time is known: they have a day for a file.
    """
    name, _, number = partial.name.removesuffix(PARTIAL).rpartition(".")
    if name.endswith(f".{here()}"):
        return psutil.pid_exists(int(number))
    try:
        return time.time() - partial.stat().st_mtime < LONGEST_SECONDS
    except FileNotFoundError:  # it is whole by now
        return True
