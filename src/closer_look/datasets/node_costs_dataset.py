"""What every node of a run has cost, a line a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io.core import AbstractDataset
from kedro_datasets._typing import TablePreview

from closer_look.datasets.table_dataset import preview_rows

COLUMNS = (
    *("node", "stage", "started", "seconds"),
    *("peak_memory", "peak_gpu_memory", "machine", "gpus"),
)


class NodeCostsDataset(AbstractDataset[dict[str, Any], pd.DataFrame]):
    """JSON Lines that only grow: a run taken up again, or beside another, adds to them.

    Example::

        "{scenario}.node_costs":
          type: closer_look.datasets.node_costs_dataset.NodeCostsDataset
          filepath: data/08_reporting/people/node_costs.jsonl
          scenario: "{scenario}"
    """

    def __init__(
        self,
        *,
        filepath: str,
        scenario: str | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Bind to a file.

        Args:
            filepath: of the lines; it need not exist yet.
            scenario: whose nodes are read, with those that all scenarios share; None for all.
            metadata: for kedro-viz.
        """
        self._filepath = Path(filepath)
        self._scenario = scenario
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        """The newest line of every node; memory in bytes, ``started`` in UTC."""
        lines = self._filepath.read_text("utf-8").splitlines() if self._exists() else []
        costs = pd.DataFrame([json.loads(line) for line in lines], columns=list(COLUMNS))
        scenarios = costs["node"].str.extract(r"^(\w+)\.", expand=False)
        if self._scenario:
            costs = costs[scenarios.isna() | (scenarios == self._scenario)]
        return costs.drop_duplicates("node", keep="last", ignore_index=True)

    def save(self, data: dict[str, Any]) -> None:
        """Add one line."""
        self._filepath.parent.mkdir(parents=True, exist_ok=True)
        with self._filepath.open("a", encoding="utf-8") as file:
            file.write(json.dumps(data) + "\n")

    def preview(self, nrows: int = 40) -> TablePreview:
        """The first nodes, for kedro-viz."""
        return preview_rows(self.load().head(nrows).drop(columns=["machine", "gpus"]))

    def _exists(self) -> bool:
        return self._filepath.is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "scenario": self._scenario}
