"""A folder in the catalog: its path is given, and nobody gives it."""

import pytest
from kedro.io.core import DatasetError

from closer_look.datasets.folder_dataset import FolderDataset


def test_its_path_is_given(tmp_path):
    """Whether it is there or not: the library makes it when there is something to keep."""
    assert FolderDataset(filepath=f"{tmp_path}/cache").load() == tmp_path / "cache"
    assert not (tmp_path / "cache").exists()


def test_it_is_never_given(tmp_path):
    with pytest.raises(DatasetError, match="fills itself"):
        FolderDataset(filepath=str(tmp_path)).save(tmp_path)
