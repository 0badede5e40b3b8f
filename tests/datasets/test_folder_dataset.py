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


def test_study_of_a_run_in_a_bucket_stays_on_this_machine(tmp_path, monkeypatch):
    from closer_look.datasets import folder_dataset
    from closer_look.datasets.folder_dataset import StudyDataset

    monkeypatch.setattr(folder_dataset, "working_folder", lambda place: tmp_path / place[-5:])
    assert StudyDataset(filepath="s3://bucket/study").load() == tmp_path / "study"
