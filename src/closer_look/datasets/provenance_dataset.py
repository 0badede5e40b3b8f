"""With what every artefact of a run was made, a line each time that a node makes some."""

from __future__ import annotations

from typing import Any

import pandas as pd
from kedro_datasets._typing import TablePreview

from closer_look.datasets.growing_lines_dataset import GrowingLinesDataset
from closer_look.datasets.table_dataset import preview_rows


class ProvenanceDataset(GrowingLinesDataset[list[dict[str, Any]]]):
    """The lines as they are (see ``closer_look.project.provenance``).

    Example::

        provenance:
          type: closer_look.datasets.provenance_dataset.ProvenanceDataset
          filepath: data/08_reporting/people/provenance.jsonl
    """

    def load(self) -> list[dict[str, Any]]:
        """All lines, the oldest first."""
        return self.lines()

    def preview(self, nrows: int = 40) -> TablePreview:
        """The last lines, for kedro-viz: which node made what, from what."""
        lines = pd.DataFrame(self.lines()[-nrows:], columns=["node", "inputs", "outputs"])
        return preview_rows(
            lines.map(lambda value: list(value) if isinstance(value, dict) else value)
        )
