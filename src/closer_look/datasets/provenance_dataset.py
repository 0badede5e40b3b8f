"""With what every artefact of a run was made, a line each time that a node makes some."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io.core import AbstractDataset
from kedro_datasets._typing import TablePreview

from closer_look.datasets.table_dataset import preview_rows


class ProvenanceDataset(AbstractDataset[dict[str, Any], list[dict[str, Any]]]):
    """JSON Lines that only grow; processes beside each other may add to them.

    Example::

        provenance:
          type: closer_look.datasets.provenance_dataset.ProvenanceDataset
          filepath: data/08_reporting/people/provenance.jsonl
    """

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
        """The folder of the run, made if it is not there."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        return self._filepath.parent

    def load(self) -> list[dict[str, Any]]:
        """All lines, the oldest first; a line that a dying machine left half is none."""
        if not self._exists():
            return []
        return [
            line
            for text in self._filepath.read_text("utf-8").splitlines()
            if (line := _parse(text))
        ]

    def save(self, data: dict[str, Any]) -> None:
        """Add one line, in one piece."""
        line = "\n" + json.dumps(data)  # first, so that half a line before it does no harm
        file = os.open(self.folder / self._filepath.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def preview(self, nrows: int = 40) -> TablePreview:
        """The last lines, for kedro-viz: which node made what, from what."""
        lines = pd.DataFrame(self.load()[-nrows:], columns=["node", "inputs", "outputs"])
        return preview_rows(
            lines.map(lambda value: list(value) if isinstance(value, dict) else value)
        )

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _parse(text: str) -> dict[str, Any] | None:
    try:
        return json.loads(text) if text else None
    except json.JSONDecodeError:
        return None
