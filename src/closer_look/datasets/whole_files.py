"""File systems that write files atomically: a file gets its name when it is complete.

Otherwise a process that is killed, or stopped by an error, while writing leaves half a file, which
Kedro's existence check (``--only-missing-outputs``) takes for a result. ``settings.py`` puts such
file systems in place of fsspec's, through which Kedro's datasets read and write.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from io import BytesIO, TextIOWrapper
from typing import Any, ClassVar

import fsspec
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem

from closer_look.errors import InputError, quote

INSTALLED_BY = {"s3": "pip install 'closer-look[s3]'"}  # protocol -> how to get its file system
READ_ONLY = ("http", "https")


def write_whole_files() -> None:
    """Make every dataset of this process write local files atomically."""
    for protocol in LocalFileSystem.protocol:
        fsspec.register_implementation(protocol, WholeFileSystem, clobber=True)


def upload_whole_files(urls: Iterable[str]) -> None:
    """Make every dataset of this process write atomically to where these URLs lead.

    Raises:
        InputError: fsspec knows no such protocol, or its package is not installed.
    """
    first = {url.partition("://")[0]: url for url in urls}
    for protocol, url in first.items():
        if protocol in READ_ONLY or fsspec.utils.get_protocol(url) == "file":
            continue
        try:
            known = fsspec.get_filesystem_class(protocol)
        except ValueError:
            raise InputError(
                f"{quote(url)}: '{protocol}' is no protocol of a storage that fsspec knows; use a "
                f"folder, or a URL such as s3://BUCKET/FOLDER"
            ) from None
        except ImportError as error:
            how = INSTALLED_BY.get(protocol, str(error))
            raise InputError(f"{quote(url)}: its package is not installed; {how}") from None
        if not issubclass(known, WholeUploads):
            whole = type(f"Whole{known.__name__}", (WholeUploads, known), {"of_fsspec": known})
            fsspec.register_implementation(protocol, whole, clobber=True)


class _WholeTexts:
    """Opens text in UTF-8, whatever the locale."""

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open a file."""
        if "b" in mode:
            return super().open(path, mode, **options)
        encoding = {"encoding": options.pop("encoding", "utf-8")}
        encoding |= {name: options.pop(name) for name in ("errors", "newline") if name in options}
        open_binary = self.open
        return _Text(open_binary(path, f"{mode.replace('t', '')}b", **options), **encoding)


class WholeFileSystem(_WholeTexts, LocalFileSystem):
    """A LocalFileSystem that writes to a temporary name and renames the file at the end."""

    def _open(self, path: str, mode: str = "rb", **options: Any) -> LocalFileOpener:
        if "w" not in mode or not options.get("autocommit", True):  # a transaction renames itself
            return super()._open(path, mode, **options)
        path = self._strip_protocol(path)
        if self.auto_mkdir:
            self.makedirs(self._parent(path), exist_ok=True)
        return _WholeFile(path, mode, fs=self)


class WholeUploads(_WholeTexts):
    """A part of a remote file system that uploads an object in one request, once it is written.

    fsspec's own files would upload what they have when an error ends the writing.
    """

    of_fsspec: ClassVar[type[AbstractFileSystem]]
    """The whole file system."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # What other machines have written since is to be seen.
        super().__init__(*arguments, **{"use_listings_cache": False} | options)

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Open an object."""
        is_whole = mode != "wb" or "data" in options  # as the memory's own ``pipe_file`` opens it
        return super().open(path, mode, **options) if is_whole else _Upload(self._plain, path)

    @property
    def _plain(self) -> AbstractFileSystem:
        """The file system without this part: some write a whole object by opening it."""
        return self.of_fsspec(*self.storage_args, **self.storage_options)


class _Upload(BytesIO):
    """What is written to an object, in memory."""

    def __init__(self, filesystem: AbstractFileSystem, path: str) -> None:
        super().__init__()
        self.filesystem, self.path = filesystem, path

    def close(self) -> None:
        if self.closed:
            return
        content = self.getvalue()
        self.discard()
        self.filesystem.pipe_file(self.path, content)

    def discard(self) -> None:
        """Give up what was written."""
        super().close()

    def __exit__(self, exc_type: type[BaseException] | None, *rest: Any) -> None:
        self.close() if exc_type is None else self.discard()


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
        if exc_type is not None and isinstance(self.buffer, _WholeFile | _Upload):
            self.buffer.discard()
        super().__exit__(exc_type, *rest)
