"""Lines of JSON that only grow."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Generic, TypeVar

from kedro.io.core import AbstractDataset

Read = TypeVar("Read")


class GrowingLinesDataset(AbstractDataset[dict[str, Any], Read], Generic[Read]):
    """A line is added each time it is saved; processes beside each other may add to them."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Bind to a file.

        Args:
            filepath: of the lines; it need not exist yet.
            metadata: for kedro-viz.
        """
        self._filepath = Path(filepath)
        self.metadata = metadata

    @property
    def folder(self) -> Path:
        """The folder of the file, made if it is not there."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        return self._filepath.parent

    def lines(self) -> list[dict[str, Any]]:
        """All of them, the oldest first; one that a dying machine left half is none."""
        if not self._exists():
            return []
        texts = self._filepath.read_text("utf-8").splitlines()
        return [line for text in texts if (line := _parse(text))]

    def save(self, data: dict[str, Any]) -> None:
        """Add one line, in one piece."""
        line = "\n" + json.dumps(data)  # first, so that half a line before it does no harm
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
