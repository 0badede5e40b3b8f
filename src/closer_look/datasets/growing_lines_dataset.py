"""The dataset of a JSON Lines file that only grows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Generic, TypeVar

from kedro.io.core import AbstractDataset

Read = TypeVar("Read")


class GrowingLinesDataset(AbstractDataset[dict[str, Any], Read], Generic[Read]):
    """A JSON Lines file; saving appends a line, also from several processes at once."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            filepath: path of the file, which need not exist yet.
            metadata: settings for kedro-viz.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    @property
    def folder(self) -> Path:
        """Folder of the file, created if it is missing."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        return self._filepath.parent

    def lines(self) -> list[dict[str, Any]]:
        """Read all complete lines, oldest first; a line cut off by a crash is skipped."""
        if not self._exists():
            return []
        texts = self._filepath.read_text("utf-8").splitlines()
        return [line for text in texts if (line := _parse(text))]

    def save(self, data: dict[str, Any]) -> None:
        """Append one line in a single write."""
        line = "\n" + json.dumps(data)  # the break comes first: it also ends a line cut off before
        file = os.open(self.folder / self._filepath.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _parse(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return None
