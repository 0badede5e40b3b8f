"""The dataset of the ledger of requests to forget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kedro.io.core import AbstractDataset, DatasetError

from closer_look.erasure.ledger import Ledger
from closer_look.system.storage import is_url


class LedgerDataset(AbstractDataset[None, Ledger]):
    """A ledger, to which its user appends line by line.

    Example::

        ledger:
          type: closer_look.datasets.ledger_dataset.LedgerDataset
          filepath: data/08_reporting/people/erasure/ledger.jsonl
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            filepath: path of the file, or URL of the folder of its lines; it need not exist yet.
            metadata: settings for kedro-viz.
        """
        self._filepath = filepath
        self.metadata = metadata

    def load(self) -> Ledger:
        """Return the ledger."""
        return Ledger(self._filepath if is_url(self._filepath) else Path(self._filepath))

    def save(self, data: None) -> None:
        """Refuse to save: a ledger is never written anew."""
        raise DatasetError(f"{self._filepath} is not saved by Kedro; append lines to it")

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}
