"""Provenance: lines that only grow."""

import pytest

from closer_look.datasets.provenance_dataset import ProvenanceDataset

LINE = {"node": "finetune", "inputs": {"base_model": ["a", "b"]}, "outputs": {}}


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


def test_preview_names_what_went_in(dataset):
    dataset.save(LINE)
    assert dataset.preview()["data"] == [["finetune", "base_model", ""]]
