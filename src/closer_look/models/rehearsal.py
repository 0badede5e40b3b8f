"""What loading a folder does is tried in a copy of this process first, within limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

from closer_look.errors import InputError, first_line
from closer_look.system.limits import LimitExceededError, within_limits

Result = TypeVar("Result")

SECONDS, MEMORY = 4, 2**31  # of processor time, and bytes

_passed: set[tuple[object, ...]] = set()


def rehearse(
    folders: Sequence[str], file: str, work: Callable[[], object], n_bytes: int = 0
) -> None:
    """Try work on a model's files, once per process as long as they stay as they are.

    Args:
        folders: all folders that the work reads; the first is named in messages.
        file: whose fault it is if the work fails, for messages and to tell one work from another.
        work: see ``within_limits``; its result, perhaps a model, is not handed over.
        n_bytes: what honest files may take beyond the time and memory of small ones.

    Raises:
        InputError: the work took too much.
        ValueError: the work failed; the message is one line.
    """
    key = (file, *(stamp for folder in folders for stamp in _stamps(folder)))
    if key in _passed:
        return
    seconds = SECONDS + n_bytes // 2**25  # of a disk that is far away
    try:
        within_limits(partial(_without_result, work), seconds, MEMORY + 4 * n_bytes)
    except LimitExceededError as error:
        raise InputError(
            f"{folders[0]}: to read {file} {error}; use a folder as save_pretrained writes it"
        ) from None
    _passed.add(key)


def _without_result(work: Callable[[], object]) -> None:
    in_plain_words(work)


def in_plain_words(work: Callable[[], Result]) -> Result:
    """Do work whose errors may be none of Python, as in a copy of this process.

    Raises:
        ValueError: the work failed; the message is one line.
    """
    try:
        return work()
    except (InputError, LimitExceededError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a panic of Rust is no Exception, and cannot be handed over
        raise ValueError(first_line(error) or type(error).__name__) from None


def _stamps(folder: str) -> list[tuple[str, int, int]]:
    stats = [(str(path), path.stat()) for path in sorted(Path(folder).rglob("*"))]
    return [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]
