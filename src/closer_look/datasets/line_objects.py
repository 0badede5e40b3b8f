"""Lines that only grow in number, in a bucket: stores cannot append, so each line is an object.

Names begin with the time, so their order is that in which the lines were written. Once in a while
a writer merges what is there into one object, which holds each line with the name that it had. So
several processes may write and merge at once: a line that is found twice counts once, and none is
deleted that is not in a merged object.
"""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from itertools import count
from uuid import uuid4

from closer_look.system.storage import opened

MERGE_EVERY = 100  # lines of a process
LINE, MERGED = ".json", ".merged"

_count = count(1)


def append(url: str, line: bytes) -> None:
    """Write a line without a line break under a URL that stands for all lines."""
    filesystem, folder = opened(url)
    number = next(_count)
    name = f"{time.time_ns():020}-{socket.gethostname()}-{os.getpid()}-{number}"
    filesystem.pipe_file(f"{folder}/{name}{LINE}", line)
    if number % MERGE_EVERY == 0:
        _merge(url)


def read(url: str) -> list[bytes]:
    """Read all lines, oldest first."""
    lines, _ = _read(url)
    return [lines[name] for name in sorted(lines)]


def _read(url: str) -> tuple[dict[bytes, bytes], list[str]]:
    """Read all lines by name, and list the objects that hold them."""
    filesystem, folder = opened(url)
    while True:
        objects = sorted(filesystem.find(folder))
        try:
            contents = filesystem.cat(objects) if objects else {}
        except FileNotFoundError:  # merged by another process meanwhile
            continue
        break
    lines: dict[bytes, bytes] = {}
    for path in objects:
        name = path.rpartition("/")[2].encode()
        if path.endswith(MERGED):
            lines |= dict(line.split(b"\t", 1) for line in contents[path].split(b"\n"))
        else:
            lines[name.removesuffix(LINE.encode())] = contents[path]
    return lines, objects


def _merge(url: str) -> None:
    lines, objects = _read(url)
    filesystem, folder = opened(url)
    content = b"\n".join(b"\t".join(one) for one in sorted(lines.items()))
    filesystem.pipe_file(f"{folder}/{uuid4().hex}{MERGED}", content)
    with suppress(FileNotFoundError):  # another process has merged them, too
        filesystem.rm(objects)
