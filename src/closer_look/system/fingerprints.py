"""Fingerprints of files: a hash of the content, and a stamp that tells whether it still holds.

An object in a bucket has what its store tells of it (size, time, ETag) for a stamp, so it is not
downloaded for its hash once that is known. Of a file on the web nothing reliable is told.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from closer_look.system.storage import is_url, opened

WEB = ("http://", "https://")

_known: dict[str, str] = {}  # stamp -> SHA-256


class Fingerprint(NamedTuple):
    """A content hash of files, and a stamp that tells without reading whether it still holds."""

    sha256: str
    stamp: str
    """Hash of path, size and modification time of each file, or of what a store tells of it."""


def fingerprint(sources: Sequence[str]) -> Fingerprint:
    """Hash files, and all files in folders; files with a known stamp are not read again.

    Args:
        sources: files and folders, or URLs that fsspec understands.
    """
    files = [file for source in sources for file in _files(source)]
    stamp = _hash([[str(path), *of_file] for _, path, of_file in files])
    if not all(of_file for *_, of_file in files) or stamp not in _known:
        _known[stamp] = _hash([[name, file_sha256(path)] for name, path, _ in files])
    return Fingerprint(_known[stamp], stamp)


def remember(known: Fingerprint) -> None:
    """Register a fingerprint that an earlier process computed."""
    _known.setdefault(known.stamp, known.sha256)


def _files(source: str) -> Iterator[tuple[str, str | Path, tuple[int | str, ...]]]:
    """Yield each file's name inside the source, its path, and its size and modification time (ns).

    Of an object, a hash of what its store tells stands in their place; of the web, nothing.
    """
    if is_url(source):
        filesystem, path = opened(source)
        yield "", source, () if source.startswith(WEB) else (filesystem.ukey(path),)
        return
    root = Path(source)
    inside = sorted(root.rglob("*")) if root.is_dir() else [root]
    for path in filter(Path.is_file, inside):
        stat = path.stat()
        name = path.relative_to(root).as_posix()
        yield name, path.absolute(), (stat.st_size, stat.st_mtime_ns)


def file_sha256(path: str | Path) -> str:
    """Hash a file or the content of a URL, in hexadecimal digits."""
    if isinstance(path, Path):
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    filesystem, inside = opened(path)
    return hashlib.sha256(filesystem.cat_file(inside)).hexdigest()


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
