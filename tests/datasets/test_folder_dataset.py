"""A folder in the catalog: its path is given, and nobody gives it."""

import pytest
from kedro.io.core import DatasetError

from closer_look.datasets.folder_dataset import CheckpointsDataset, FolderDataset


def test_its_path_is_given(tmp_path):
    """Whether it is there or not: the library makes it when there is something to keep."""
    assert FolderDataset(filepath=f"{tmp_path}/cache").load() == tmp_path / "cache"
    assert not (tmp_path / "cache").exists()


def test_it_is_never_given(tmp_path):
    with pytest.raises(DatasetError, match="is not saved by Kedro"):
        FolderDataset(filepath=str(tmp_path)).save(tmp_path)


def test_checkpoints_are_removed_with_their_folder(tmp_path):
    dataset = CheckpointsDataset(filepath=f"{tmp_path}/target.checkpoints")
    dataset.remove()  # a training may have kept none
    (dataset.load() / "checkpoint-1").mkdir(parents=True)
    dataset.remove()
    assert list(tmp_path.iterdir()) == []
