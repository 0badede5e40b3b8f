"""Paths that may be URLs: of a bucket that machines share, through fsspec."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import fsspec
from fsspec import AbstractFileSystem

from closer_look.errors import InputError, first_line

CACHE = "CLOSER_LOOK_CACHE"  # environment variable: folder of what comes from URLs
MARK = "://"


def is_url(path: object) -> bool:
    """Tell a URL from a local path."""
    return MARK in str(path)


def opened(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the file system of a URL, which sees what others have written, and the path in it."""
    filesystem, path = fsspec.url_to_fs(url, use_listings_cache=False)
    # Without "//", as Kedro writes it; a path on the web is the URL itself.
    return filesystem, path if is_url(path) else PurePosixPath(path).as_posix()


def name_of(path: str | Path) -> str:
    """Return the last part of a path or URL."""
    return PurePosixPath(path).name


def names_in(folder: str) -> list[str]:
    """List the names in a folder, which may be a URL; there are none if it does not exist."""
    if not is_url(folder):
        return os.listdir(folder) if os.path.isdir(folder) else []
    filesystem, path = opened(folder)
    try:
        return [name_of(inside) for inside in filesystem.ls(path, detail=False)]
    except FileNotFoundError:
        return []


def read_if_there(path: str) -> bytes | None:
    """Read a file or object; None if there is none."""
    try:
        with fsspec.open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return None


def write(path: str, content: bytes) -> None:
    """Write a file, with the folders that it lies in, or an object."""
    options = {} if is_url(path) else {"auto_mkdir": True}
    with fsspec.open(path, "wb", **options) as file:
        file.write(content)


def shown(path: str | Path) -> str:
    """Format a path for the log: from the working directory, or the whole URL."""
    return str(path) if is_url(path) else os.path.relpath(path)


def cache_folder() -> Path:
    """Return the folder of what this machine keeps of storage that is elsewhere.

    It is ``CLOSER_LOOK_CACHE``, or ``closer_look`` in the user's folder of caches.
    """
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get(CACHE) or Path(caches, "closer_look")).absolute()


def working_folder(path: str) -> Path:
    """Return a folder itself; of a URL, the folder of this machine that stands for it."""
    return cache_folder() / "work" / path.replace(MARK, "/") if is_url(path) else Path(path)


@contextmanager
def usable(url: str) -> Iterator[None]:
    """Turn every error of a first request to a storage into one line.

    Raises:
        InputError: there is no such bucket, no credentials, no access, or no answer.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        reason, remedy = first_line(error), "create the bucket, or name another one"
    except PermissionError as error:
        reason, remedy = first_line(error), "these credentials need leave to list, read and write"
    except Exception as error:  # each protocol has errors of its own
        reason, remedy = first_line(error), "check credentials, endpoint and network"
    else:
        return
    raise InputError(
        f"{url} cannot be used ({reason}); {remedy}, or keep the artefacts in a folder: "
        f"--params data=FOLDER"
    )
