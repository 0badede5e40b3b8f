"""Half-written files in a folder that several processes share, also those of other machines."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import psutil

PARTIAL = ".partial"
LONGEST_SECONDS = 24 * 3600  # that a file of another machine may take to be written


def partial_of(path: Path) -> Path:
    """Return the name under which this process writes a file until it is whole."""
    return path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}{PARTIAL}")


def is_being_written(partial: Path) -> bool:
    """Return whether the process that writes a file may still be at work.

    Of another machine's processes only the time is known: they have a day for a file.
    """
    name, _, number = partial.name.removesuffix(PARTIAL).rpartition(".")
    if name.endswith(f".{socket.gethostname()}"):
        return psutil.pid_exists(int(number))
    try:
        return time.time() - partial.stat().st_mtime < LONGEST_SECONDS
    except FileNotFoundError:  # it is whole by now
        return True
