"""A local file system that writes files atomically: a file gets its name when it is complete.

Otherwise a process that is killed while writing leaves half a file, which Kedro's existence check
(``--only-missing-outputs``) takes for a result. ``settings.py`` puts this file system in place of
fsspec's, through which Kedro's datasets write.
"""

from __future__ import annotations

import os
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
        if "b" not in mode:
            options.setdefault("encoding", "utf-8")
        return super().open(path, mode, **options)

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
        super().close()
        if not self.is_done:
            self.is_done = True
            os.replace(self.path, self.name)

    def __exit__(self, exc_type: type[BaseException] | None, *rest: Any) -> None:
        if exc_type is not None:
            self.is_done = True
            os.remove(self.path)
        super().__exit__(exc_type, *rest)
        self.close()
