"""Provenance: lines that only grow."""

import errno
import os

import pytest
from kedro.io import DatasetError

from closer_look.datasets.provenance_dataset import ProvenanceDataset

MADE = {"parameters": {}, "code": {}, "inputs": {"base_model": ["a", "b"]}, "outputs": {}}
LINE = {"node": "finetune"} | MADE


@pytest.fixture
def dataset(tmp_path):
    return ProvenanceDataset(filepath=str(tmp_path / "run" / "provenance.jsonl"))


def test_what_was_never_written_is_empty(dataset):
    assert not dataset.exists()
    assert dataset.load() == []


def test_lines_are_added(dataset):
    dataset.save(LINE)
    dataset.save(LINE | {"node": "unlearn"})
    assert dataset.exists()
    assert [line["node"] for line in dataset.load()] == ["finetune", "unlearn"]


def test_half_a_line_is_none_and_does_no_harm(dataset):
    dataset.save(LINE)
    path = dataset.folder / "provenance.jsonl"
    path.write_text(path.read_text() + '\n{"node": "unl')
    dataset.save(LINE | {"node": "report"})
    assert [line["node"] for line in dataset.load()] == ["finetune", "report"]


def test_a_disk_that_takes_half_a_line_is_full(dataset, monkeypatch):
    dataset.save(LINE)
    write = os.write
    with monkeypatch.context() as patch, pytest.raises(DatasetError) as caught:
        patch.setattr(os, "write", lambda file, line: write(file, line[: len(line) // 2]))
        dataset.save(LINE | {"node": "unlearn"})
    assert caught.value.__cause__.errno == errno.ENOSPC
    dataset.save(LINE | {"node": "report"})
    assert [line["node"] for line in dataset.load()] == ["finetune", "report"]


@pytest.mark.parametrize(
    "damaged",
    [b"\xff\xfe{}", b"[1]", b"1", b'"text"', b"null", b'{"node": "unlearn"}', b"{" * 100_000],
)
def test_a_damaged_line_is_left_out_with_a_word(dataset, caplog, damaged):
    dataset.save(LINE)
    path = dataset.folder / "provenance.jsonl"
    path.write_bytes(path.read_bytes() + b"\n" + damaged)
    dataset.save(LINE | {"node": "report"})
    dataset.save(LINE | {"node": "report"})  # twice is once
    assert [line["node"] for line in dataset.load()] == ["finetune", "report", "report"]
    assert f"{path}: left out damaged line 3" in caplog.text


def test_preview_names_what_went_in(dataset):
    dataset.save(LINE)
    assert dataset.preview()["data"] == [["finetune", "base_model", ""]]
