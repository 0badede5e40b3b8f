"""The dataset of provenance: what each artefact of a run was made from."""

from __future__ import annotations

from typing import Any

import pandas as pd
from kedro_datasets._typing import TablePreview

from closer_look.datasets.growing_lines_dataset import GrowingLinesDataset
from closer_look.datasets.table_dataset import preview_rows


class ProvenanceDataset(GrowingLinesDataset[list[dict[str, Any]]]):
    """A line for each execution of a node (see ``closer_look.project.provenance``).

    Example::

        provenance:
          type: closer_look.datasets.provenance_dataset.ProvenanceDataset
          filepath: data/08_reporting/people/provenance.jsonl
    """

    REQUIRED = ("node", "parameters", "code", "inputs")

    def load(self) -> list[dict[str, Any]]:
        """Load all lines, oldest first."""
        return self.lines()

    def preview(self, nrows: int = 40) -> TablePreview:
        """Show the last lines in kedro-viz: node, inputs and outputs."""
        lines = pd.DataFrame(self.lines()[-nrows:], columns=["node", "inputs", "outputs"])
        return preview_rows(
            lines.map(lambda value: list(value) if isinstance(value, dict) else value)
        )
