"""The dataset of a JSON Lines file that only grows; in a bucket, of a folder with its lines."""

from __future__ import annotations

import errno
import json
import logging
import os
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from kedro.io.core import AbstractDataset

from closer_look.datasets import line_objects
from closer_look.system.storage import is_url

Read = TypeVar("Read")

log = logging.getLogger(__name__)


class GrowingLinesDataset(AbstractDataset[dict[str, Any], Read], Generic[Read]):
    """A JSON Lines file; saving appends a line, also from several processes at once."""

    REQUIRED: ClassVar = ("node",)
    """What a line must have to be one."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            filepath: path of the file, or URL of the folder; it need not exist yet.
            metadata: settings for kedro-viz.
        """
        self._filepath = filepath if is_url(filepath) else Path(filepath)
        self.metadata = metadata

    @property
    def folder(self) -> Path | str:
        """Folder of the file, created if it is missing; as a URL, if it is in a bucket."""
        if is_url(self._filepath):
            return self._filepath.rpartition("/")[0]
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        return self._filepath.parent

    def lines(self) -> list[dict[str, Any]]:
        """Read all lines, oldest first; those that are damaged or cut off are left out."""
        lines, damaged = [], []
        for number, written in enumerate(self._written(), start=1):
            line = _parse(written)
            if isinstance(line, dict) and line.keys() >= {*self.REQUIRED}:
                lines.append(line)
            elif written.strip():
                damaged.append(str(number))
        if damaged:
            log.warning("%s: left out damaged line %s", self._filepath, ", ".join(damaged))
        return lines

    def _written(self) -> list[bytes]:
        if is_url(self._filepath):
            return line_objects.read(self._filepath)
        return self._filepath.read_bytes().split(b"\n") if self._exists() else []

    def save(self, data: dict[str, Any]) -> None:
        """Append one line in a single write.

        Raises:
            OSError: the disk is full; the line may be cut off.
        """
        if is_url(self._filepath):
            line_objects.append(self._filepath, json.dumps(data).encode())
            return
        # The break comes first: it also ends a line cut off before.
        line = f"\n{json.dumps(data)}".encode()
        file = os.open(self.folder / self._filepath.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            if os.write(file, line) < len(line):  # how a full disk begins
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)

    def _exists(self) -> bool:
        if is_url(self._filepath):
            return bool(line_objects.read(self._filepath))
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _parse(written: bytes) -> Any:
    try:
        return json.loads(written)
    except (ValueError, RecursionError):  # of another encoding, too
        return None
