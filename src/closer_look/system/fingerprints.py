"""Fingerprints of files: a hash of what they hold, and a stamp that tells whether it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import fsspec

_known: dict[str, str] = {}  # stamp -> SHA-256


class Fingerprint(NamedTuple):
    """A hash of what files hold, and a stamp that tells without reading whether it still holds."""

    sha256: str
    stamp: str
    """Hash of path, size and time of the last change of each file."""


def fingerprint(sources: Sequence[str]) -> Fingerprint:
    """Hash files, of folders all that is in them; those that this process knows are not read again.

    Args:
        sources: files and folders, or URLs that fsspec understands.
    """
    files = [file for source in sources for file in _files(source)]
    stamp = _hash([[str(path), *of_file] for _, path, of_file in files])
    is_remote = any("://" in source for source in sources)  # says nothing of its last change
    if is_remote or stamp not in _known:
        _known[stamp] = _hash([[name, file_sha256(path)] for name, path, _ in files])
    return Fingerprint(_known[stamp], stamp)


def remember(known: Fingerprint) -> None:
    """Take a fingerprint of an earlier process as known."""
    _known.setdefault(known.stamp, known.sha256)


def _files(source: str) -> Iterator[tuple[str, str | Path, tuple[int, ...]]]:
    """Name inside the source, path, and size and time of the last change (ns)."""
    if "://" in source:
        yield "", source, ()
        return
    root = Path(source)
    inside = sorted(root.rglob("*")) if root.is_dir() else [root]
    for path in filter(Path.is_file, inside):
        stat = path.stat()
        name = path.relative_to(root).as_posix()
        yield name, path.absolute(), (stat.st_size, stat.st_mtime_ns)


def file_sha256(path: str | Path) -> str:
    """Hash a file, or what is at a URL, in hexadecimal digits."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    with fsspec.open(path, "rb") as file:
        return hashlib.sha256(file.read()).hexdigest()


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
