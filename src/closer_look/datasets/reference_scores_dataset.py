"""The dataset of reference scores: a table and, for some losses, tensors."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
from kedro.io.core import AbstractVersionedDataset, Version
from kedro_datasets._typing import TablePreview
from safetensors.torch import load_file, save_file

from closer_look.datasets.table_dataset import preview_rows
from closer_look.training.reference_scores import ReferenceScores

# Prefixes of row ids and of the names of weights: an id may be any text, even such a name.
ROW, HEAD, LAYER = "row ", "output head ", "layer "


class ReferenceScoresDataset(AbstractVersionedDataset[ReferenceScores, ReferenceScores]):
    """A folder with ``nll.parquet`` and ``hidden_states.safetensors``.

    Example::

        "{scenario}.{method}.{task}.reference_scores":
          type: closer_look.datasets.reference_scores_dataset.ReferenceScoresDataset
          filepath: data/05_model_input/main/{scenario}/{method}/{task}/reference_scores
          versioned: true
    """

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Set up.

        Args:
            filepath: path of the folder.
            version: passed by Kedro.
            metadata: settings for kedro-viz.
        """
        super().__init__(
            filepath=PurePosixPath(filepath),
            version=version,
            exists_function=_is_complete,
        )
        self.metadata = metadata

    def load(self) -> ReferenceScores:
        """Load the table and the tensors."""
        folder = Path(self._get_load_path())
        tensors = load_file(folder / "hidden_states.safetensors")
        of_kinds = (
            {name.removeprefix(kind): one for name, one in tensors.items() if name.startswith(kind)}
            for kind in (ROW, HEAD, LAYER)
        )
        return ReferenceScores(pd.read_parquet(folder / "nll.parquet"), *of_kinds)

    def save(self, data: ReferenceScores) -> None:
        """Save table and tensors in a folder that gets its name when it is complete."""
        folder = Path(self._get_save_path())
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a crash
        partial.mkdir(parents=True)
        kinds = {ROW: data.hidden_states, HEAD: data.output_head, LAYER: data.activations}
        tensors = {
            f"{kind}{name}": tensor for kind, of in kinds.items() for name, tensor in of.items()
        }
        try:
            save_file(tensors, partial / "hidden_states.safetensors")
            with (partial / "nll.parquet").open("wb") as file:
                data.nll.to_parquet(file)
        except BaseException:
            shutil.rmtree(partial)
            raise
        partial.rename(folder)

    def preview(self, nrows: int = 10) -> TablePreview:
        """Show the first scores in kedro-viz."""
        nll = pd.read_parquet(Path(self._get_load_path(), "nll.parquet"))
        return preview_rows(nll.head(nrows))

    def _exists(self) -> bool:
        return _is_complete(str(self._get_load_path()))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def _is_complete(path: str) -> bool:
    return Path(path, "nll.parquet").is_file()
