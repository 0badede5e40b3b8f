"""What killed runs leave behind is gone after the next run, and a wrong clock is noticed."""

import os
import subprocess
import sys

import pytest
from kedro.io import DataCatalog
from kedro.pipeline import Node, Pipeline

from closer_look.datasets.raw_rows import QuestionsDataset
from closer_look.datasets.table_dataset import TableDataset
from closer_look.errors import InputError
from closer_look.project.leftovers import remove_leftovers
from closer_look.system.processes import here

RUN = "07_model_output/test/continual/me_gd.task_01/scores.parquet"


@pytest.fixture
def dead_process():
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return process.pid


def test_half_written_files_and_old_checkpoints_are_removed(kedro_run, copied_run, dead_process):
    (version,) = (copied_run / RUN).iterdir()
    models, cache = copied_run / "06_models/test", copied_run / "05_model_input/reference_cache"
    cache.mkdir(exist_ok=True)
    left = [
        version / f"scores.parquet.{dead_process}.partial",
        models / "target.partial/model.safetensors",
        models / "continual/me_gd.task_01.replaced/model.safetensors",
        models / "continual/me_gd.task_01.checkpoints/key/checkpoint-3/model.safetensors",
        copied_run / f"03_primary/test/questions.parquet.{dead_process}.partial",
        cache / f"key.{here()}.{dead_process}.partial",
        cache / f"old.other-host.{os.getpid()}.partial",
    ]
    spared = [
        cache / f"key.{here()}.{os.getpid()}.partial",  # of a run of another name, at work
        cache / f"key.other-host.{dead_process}.partial",  # it may live there
        cache / f"key.{here()}0.{dead_process}.partial",  # or in a container with this host's name
    ]
    for path in [*left, *spared]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    os.utime(left[-1], (0, 0))
    assert kedro_run(copied_run, "continual", only_missing_outputs=True) == []
    assert not [path for path in left if path.exists()]
    assert not (models / "continual/me_gd.task_01.checkpoints").exists()
    assert all(path.exists() for path in spared)
    assert (models / "target/model.safetensors").exists()


def test_files_beside_the_users_rows_stay(tmp_path):
    own = [tmp_path / "forget.replaced/notes.txt", tmp_path / "forget-2023.partial"]
    left = tmp_path / "table.parquet.partial"
    for path in [*own, left]:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    rows = QuestionsDataset(filepath=(tmp_path / "forget").as_posix(), split="forget")
    table = TableDataset(filepath=(tmp_path / "table.parquet").as_posix())
    catalog = DataCatalog({"raw_forget": rows, "questions": table})
    remove_leftovers(Pipeline([Node(len, "raw_forget", "questions", name="n")]), catalog, [])
    assert all(path.exists() for path in own)
    assert not left.exists()


def test_clock_that_went_backwards_is_noticed(kedro_run, copied_run):
    (version,) = (copied_run / RUN).iterdir()
    version.rename(version.with_name("2999-01-01T00.00.00.000Z"))
    with pytest.raises(InputError, match=r"task_01\.scores has a version of 2999-01-01T\S+, and"):
        kedro_run(copied_run, "continual", node_names=["continual.me_gd.task_01.score_answers"])
