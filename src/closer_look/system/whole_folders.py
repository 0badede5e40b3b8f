"""Folders in a bucket: uploaded whole or not at all, and read through a cache on this machine.

Under the URL of a folder lie::

    complete.json         {"folder": "files-...", "files": {name: {"sha256": ..., "bytes": ...}}}
    files-<hash>/...      the files themselves, which never change

``complete.json`` is written last, in one request. So a reader finds the former files or the new
ones, each whole, and the hash tells whether this machine has them already.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from fsspec import AbstractFileSystem

from closer_look.errors import InputError
from closer_look.system.fingerprints import file_sha256
from closer_look.system.processes import PARTIAL, is_being_written, partial_of
from closer_look.system.storage import CACHE, cache_folder, opened

MARKER = "complete.json"
FILES = "files-"
SPARE_BYTES = 64 * 2**20
IN_USE_SECONDS = 600  # between the search of a folder in the cache and the end of its reading

Manifest = dict[str, Any]

_verified: dict[Path, list[tuple[str, int, int]]] = {}
"""Folder of the cache -> name, size and time of its files when their hashes were right."""


def marker(url: str) -> str:
    """Return the URL of the object that names all files by their hashes."""
    return f"{url.rstrip('/')}/{MARKER}"


def names(url: str) -> list[str]:
    """List the names of the files; there are none if there is no folder."""
    try:
        return list(_manifest(url)["files"])
    except FileNotFoundError:
        return []


def read_file(url: str, name: str) -> bytes:
    """Read one file from the bucket."""
    filesystem, path = opened(url)
    return filesystem.cat_file(f"{path}/{_manifest(url)['folder']}/{name}")


@contextmanager
def written(url: str) -> Iterator[Path]:
    """Provide a folder of this machine to write into, which is uploaded at the end.

    It stays in the cache. The files that it replaces are deleted.
    """
    partial = partial_of(_cached("new"))
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        manifest = _describe(partial)
        filesystem, path = opened(url)
        filesystem.put(*_both(manifest, partial, path))
        filesystem.pipe_file(f"{path}/{MARKER}", json.dumps(manifest).encode())
        _keep(partial, manifest)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    remove_others(url)


def fetch(url: str) -> Path:
    """Return a folder of this machine with the files, downloaded if they are not there yet.

    Each file's hash is checked once in a process; what is damaged is downloaded again.

    Raises:
        InputError: the files in the bucket are not those that were uploaded, or the disk has no
            room for them.
    """
    while True:
        manifest = _manifest(url)
        folder = _cached(manifest["folder"])
        if _is_right(folder, manifest):
            os.utime(folder)  # so that it is not the first to go
            return folder
        try:
            return _download(url, manifest)
        except FileNotFoundError as error:
            if _manifest(url) == manifest:
                raise InputError(
                    f"{url}: {error} is missing in the bucket; delete {MARKER} there, and make the "
                    f"folder anew with --only-missing-outputs"
                ) from None
            # Another process has replaced the folder meanwhile: read the new one.


def _download(url: str, manifest: Manifest) -> Path:
    make_room(sum(file["bytes"] for file in manifest["files"].values()) + SPARE_BYTES)
    filesystem, path = opened(url)
    partial = partial_of(_cached(manifest["folder"]))
    partial.mkdir(parents=True)
    try:
        filesystem.get(*reversed(_both(manifest, partial, path)))
        if _describe(partial) != manifest:
            raise InputError(
                f"{url}: the files in the bucket are damaged; delete {MARKER} there, and make the "
                f"folder anew with --only-missing-outputs"
            )
        return _keep(partial, manifest)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def make_room(needed: int) -> None:
    """Delete folders of the cache that were not used for the longest, until there is room.

    Args:
        needed: bytes.

    Raises:
        InputError: there is none even so.
    """
    cache = _cached("")
    cache.mkdir(parents=True, exist_ok=True)
    for left_by_a_crash in cache.glob(f"*{PARTIAL}"):
        if not is_being_written(left_by_a_crash):
            shutil.rmtree(left_by_a_crash, ignore_errors=True)
    by_age = sorted(cache.glob(f"{FILES}*"), key=_used)
    for folder in by_age:
        if _free(cache) >= needed or time.time() - _used(folder) < IN_USE_SECONDS:
            break
        shutil.rmtree(folder, ignore_errors=True)
    if _free(cache) < needed:
        raise InputError(
            f"{cache}: the model needs {needed / 2**20:,.0f} MB, the disk has "
            f"{_free(cache) / 2**20:,.0f} MB left; free some space, or name a folder of another "
            f"disk in the environment variable {CACHE}"
        )


def remove_others(url: str) -> None:
    """Delete what killed processes have uploaded, and what was replaced, at any depth."""
    filesystem, path = opened(url)
    found = filesystem.find(path)
    parts = {file: re.fullmatch(rf"(.*)/({FILES}[0-9a-f]+)/.*", file) for file in found}
    folders = {(part[1], part[2]) for part in parts.values() if part}
    kept = {
        (parent, _read_marker(filesystem, parent)["folder"])
        for parent, _ in folders
        if f"{parent}/{MARKER}" in found
    }
    others = [file for file, part in parts.items() if part and (part[1], part[2]) not in kept]
    if others:
        filesystem.rm(others)


def _manifest(url: str) -> Manifest:
    return _read_marker(*opened(url))


def _read_marker(filesystem: AbstractFileSystem, path: str) -> Manifest:
    content = filesystem.cat_file(f"{path}/{MARKER}")
    try:
        manifest = json.loads(content)
        names_inside = [manifest["folder"], *manifest["files"]]
        sizes = [file["bytes"] for file in manifest["files"].values()]
        is_ours = sum(sizes) >= 0 and not any(map(_leads_out, names_inside))
    except (ValueError, LookupError, TypeError, AttributeError):
        is_ours = False
    if not is_ours:
        raise InputError(
            f"{filesystem.unstrip_protocol(path)}/{MARKER} is damaged; delete it, and make the "
            f"folder anew with --only-missing-outputs"
        )
    return manifest


def _leads_out(name: str) -> bool:
    path = PurePosixPath(name)
    return path.is_absolute() or ".." in path.parts


def _describe(folder: Path) -> Manifest:
    inside = sorted(file for file in folder.rglob("*") if file.is_file())
    files = {
        file.relative_to(folder).as_posix(): {
            "sha256": file_sha256(file),
            "bytes": file.stat().st_size,
        }
        for file in inside
    }
    return {
        "folder": FILES + hashlib.sha256(json.dumps(files).encode()).hexdigest(),
        "files": files,
    }


def _both(manifest: Manifest, folder: Path, path: str) -> tuple[list[str], list[str]]:
    """List all files, as they lie in a folder of this machine and as they lie in the bucket."""
    inside = f"{path}/{manifest['folder']}"
    return [f"{folder}/{name}" for name in manifest["files"]], [
        f"{inside}/{name}" for name in manifest["files"]
    ]


def _cached(name: str) -> Path:
    return cache_folder() / "folders" / name


def _keep(partial: Path, manifest: Manifest) -> Path:
    """Give a folder its name in the cache; if another process has just done so, that one stays."""
    folder = _cached(manifest["folder"])
    if folder.exists() and not _is_right(folder, manifest):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        partial.rename(folder)
    except OSError:  # it is there
        if not folder.is_dir():
            raise
    else:
        _verified[folder] = _stamps(folder)
    return folder


def _is_right(folder: Path, manifest: Manifest) -> bool:
    if not folder.is_dir():
        return False
    stamps = _stamps(folder)
    if _verified.get(folder) != stamps:
        if _describe(folder) != manifest:
            return False
        _verified[folder] = stamps
    return True


def _stamps(folder: Path) -> list[tuple[str, int, int]]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return [(str(file), file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _used(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except FileNotFoundError:  # deleted by another process
        return 0


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free
