"""The dataset of reference scores: a table and, for some losses, tensors."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import pandas as pd
from kedro.io.core import AbstractVersionedDataset, Version, get_protocol_and_path
from kedro_datasets._typing import TablePreview

from closer_look.datasets.places import place_of
from closer_look.datasets.table_dataset import preview_rows
from closer_look.system import whole_folders
from closer_look.system.storage import is_url
from closer_look.training.reference_scores import ReferenceScores

# Prefixes of row ids and of the names of weights: an id may be any text, even such a name.
ROW, HEAD, LAYER = "row ", "output head ", "layer "


class ReferenceScoresDataset(AbstractVersionedDataset[ReferenceScores, ReferenceScores]):
    """A folder with ``nll.parquet`` and ``hidden_states.safetensors``, also in a bucket.

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
            filepath: path or URL of the folder.
            version: passed by Kedro.
            metadata: settings for kedro-viz.
        """
        self._protocol, path = get_protocol_and_path(filepath, version)
        self._fs = fsspec.filesystem(self._protocol)
        super().__init__(
            filepath=PurePosixPath(path),
            version=version,
            exists_function=self._is_complete,
            glob_function=self._fs.glob,
        )
        self.metadata = metadata

    def load(self) -> ReferenceScores:
        """Load the table and the tensors."""
        from safetensors.torch import load_file  # imports torch

        folder = self._read()
        tensors = load_file(folder / "hidden_states.safetensors")
        of_kinds = (
            {name.removeprefix(kind): one for name, one in tensors.items() if name.startswith(kind)}
            for kind in (ROW, HEAD, LAYER)
        )
        return ReferenceScores(pd.read_parquet(folder / "nll.parquet"), *of_kinds)

    def _read(self) -> Path:
        place = place_of(self, self._get_load_path())
        return whole_folders.fetch(place) if is_url(place) else Path(place)

    def save(self, data: ReferenceScores) -> None:
        """Save table and tensors in a folder that gets its name when it is complete."""
        place = place_of(self, self._get_save_path())
        if is_url(place):
            with whole_folders.written(place) as folder:
                _write(data, folder)
            return
        folder = Path(place)
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)  # of a crash
        try:
            _write(data, partial)
        except BaseException:
            shutil.rmtree(partial)
            raise
        partial.rename(folder)

    def sources(self) -> list[str]:
        """List what holds the files, or their hashes; empty if there are none."""
        if not self.exists():
            return []
        place = place_of(self, self._get_load_path())
        return [whole_folders.marker(place) if is_url(place) else place]

    def preview(self, nrows: int = 10) -> TablePreview:
        """Show the first scores in kedro-viz."""
        return preview_rows(pd.read_parquet(self._read() / "nll.parquet").head(nrows))

    def _exists(self) -> bool:
        return self._is_complete(str(self._get_load_path()))

    def _is_complete(self, path: str) -> bool:
        place = place_of(self, path)
        last = whole_folders.marker(place) if is_url(place) else f"{place}/nll.parquet"
        return self._fs.exists(last)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath), "version": self._version}


def _write(data: ReferenceScores, folder: Path) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    kinds = {ROW: data.hidden_states, HEAD: data.output_head, LAYER: data.activations}
    tensors = {f"{kind}{name}": tensor for kind, of in kinds.items() for name, tensor in of.items()}
    save_file(tensors, folder / "hidden_states.safetensors")
    with (folder / "nll.parquet").open("wb") as file:
        data.nll.to_parquet(file)
