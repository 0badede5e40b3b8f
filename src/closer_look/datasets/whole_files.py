"""A local file system that writes files atomically: a file gets its name when it is complete.

Otherwise a process that is killed while writing leaves half a file, which Kedro's existence check
(``--only-missing-outputs``) takes for a result. ``settings.py`` puts this file system in place of
fsspec's, through which Kedro's datasets write.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import TextIOWrapper
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem


def write_whole_files() -> None:
    """Make every dataset of this process write atomically."""
    for protocol in LocalFileSystem.protocol:
        fsspec.register_implementation(protocol, WholeFileSystem, clobber=True)


class WholeFileSystem(LocalFileSystem):
    """A LocalFileSystem that writes to a temporary name and renames the file at the end.

    Texts are in UTF-8, whatever the locale.
    """

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file."""
        if "b" in mode:
            return super().open(path, mode, **options)
        encoding = {"encoding": options.pop("encoding", "utf-8")}
        encoding |= {name: options.pop(name) for name in ("errors", "newline") if name in options}
        file = super().open(path, f"{mode.replace('t', '')}b", **options)
        return _Text(file, **encoding)

    def _open(self, path: str, mode: str = "rb", **options: Any) -> LocalFileOpener:
        if "w" not in mode or not options.get("autocommit", True):  # a transaction renames itself
            return super()._open(path, mode, **options)
        path = self._strip_protocol(path)
        if self.auto_mkdir:
            self.makedirs(self._parent(path), exist_ok=True)
        return _WholeFile(path, mode, fs=self)


class _WholeFile(LocalFileOpener):
    def __init__(self, path: str, mode: str, **options: Any) -> None:
        self.name, self.is_done = path, False
        super().__init__(f"{path}.{os.getpid()}.partial", mode, **options)

    def close(self) -> None:
        if self.is_done:
            return
        try:
            super().close()  # writes what is still in memory
        except BaseException:
            self.discard()
            raise
        self.is_done = True
        os.replace(self.path, self.name)

    def discard(self) -> None:
        """Close it and give up what was written."""
        if self.is_done:
            return
        self.is_done = True
        with suppress(OSError):  # of a disk that is full
            super().close()
        os.remove(self.path)

    def __exit__(self, exc_type: type[BaseException] | None, *rest: Any) -> None:
        if exc_type is not None:
            self.discard()
        self.close()


class _Text(TextIOWrapper):
    """Text in a file of which nothing stays if an error ends the writing."""

    def __exit__(self, exc_type: type[BaseException] | None, *rest: Any) -> None:
        if exc_type is not None and isinstance(self.buffer, _WholeFile):
            self.buffer.discard()
        super().__exit__(exc_type, *rest)
