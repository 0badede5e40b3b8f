"""The dataset of node costs: time, memory and machine of each node of a run."""

from __future__ import annotations

from typing import Any

import pandas as pd
from kedro_datasets._typing import TablePreview

from closer_look.datasets.growing_lines_dataset import GrowingLinesDataset
from closer_look.datasets.table_dataset import preview_rows

COLUMNS = (
    *("node", "stage", "started", "seconds"),
    *("peak_memory", "peak_gpu_memory", "machine", "gpus", "libraries"),
)


class NodeCostsDataset(GrowingLinesDataset[pd.DataFrame]):
    """Node costs as a table; a resumed run appends lines, and a node's newest line counts.

    Example::

        "{scenario}.node_costs":
          type: closer_look.datasets.node_costs_dataset.NodeCostsDataset
          filepath: data/08_reporting/people/node_costs.jsonl
          scenario: "{scenario}"
    """

    def __init__(self, *, scenario: str | None = None, **arguments: Any) -> None:
        """Set up.

        Args:
            scenario: read the nodes of this scenario and those that all scenarios share; None
                reads all.
            arguments: ``filepath`` of the file and ``metadata`` for kedro-viz.
        """
        super().__init__(**arguments)
        self._scenario = scenario

    def load(self) -> pd.DataFrame:
        """Load the newest line of every node; memory is in bytes, ``started`` in UTC."""
        costs = pd.DataFrame(self.lines(), columns=list(COLUMNS))
        scenarios = costs["node"].str.extract(r"^(\w+)\.", expand=False)
        if self._scenario:
            costs = costs[scenarios.isna() | (scenarios == self._scenario)]
        return costs.drop_duplicates("node", keep="last", ignore_index=True)

    def preview(self, nrows: int = 40) -> TablePreview:
        """Show the first nodes in kedro-viz."""
        return preview_rows(self.load().head(nrows).drop(columns=["machine", "gpus", "libraries"]))

    def _describe(self) -> dict[str, Any]:
        return super()._describe() | {"scenario": self._scenario}
