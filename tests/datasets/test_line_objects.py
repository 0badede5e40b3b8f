"""Lines of several processes in a bucket."""

import itertools

import fsspec
import pytest

from closer_look.datasets import line_objects
from closer_look.datasets.line_objects import append, read
from closer_look.datasets.provenance_dataset import ProvenanceDataset


@pytest.fixture
def url(tmp_path):
    return f"memory://bucket/{tmp_path.name}/lines.jsonl"


@pytest.fixture
def store():
    return fsspec.filesystem("memory")


def written(*numbers):
    return [f'{{"node": {number}}}'.encode() for number in numbers]


def test_lines_come_in_the_order_in_which_they_were_written(url):
    assert read(url) == []
    for line in written(*range(12)):
        append(url, line)
    assert read(url) == written(*range(12))


def test_after_many_lines_one_object_holds_them(url, store, monkeypatch):
    monkeypatch.setattr(line_objects, "_count", itertools.count(1))
    monkeypatch.setattr(line_objects, "MERGE_EVERY", 5)
    for line in written(*range(12)):
        append(url, line)
    assert read(url) == written(*range(12))
    assert len(store.find(url)) == 1 + 2


def test_a_merge_that_was_killed_before_it_deleted_counts_no_line_twice(url, store, monkeypatch):
    for line in written(1, 2, 3):
        append(url, line)
    with monkeypatch.context() as killed:
        killed.setattr(type(store), "rm", lambda *arguments: None)
        line_objects._merge(url)
    assert len(store.find(url)) == 4
    assert read(url) == written(1, 2, 3)
    line_objects._merge(url)
    assert len(store.find(url)) == 1
    assert read(url) == written(1, 2, 3)


def test_what_is_written_during_a_merge_stays(url, store, monkeypatch):
    """Two processes merge at once, and one sees a line more."""
    append(url, written(1)[0])
    original = type(store).pipe_file

    def pipe_file(self, path, content, *arguments, **options):
        if path.endswith(".merged"):
            monkeypatch.undo()
            append(url, written(2)[0])
            line_objects._merge(url)
        return original(self, path, content, *arguments, **options)

    monkeypatch.setattr(type(store), "pipe_file", pipe_file)
    line_objects._merge(url)
    assert read(url) == written(1, 2)


def test_a_reader_beside_a_merge_reads_again(url, store, monkeypatch):
    for line in written(1, 2, 3):
        append(url, line)
    original = type(store).cat

    def merged_meanwhile(self, paths, *arguments, **options):
        monkeypatch.undo()
        line_objects._merge(url)
        return original(self, paths, *arguments, **options)

    monkeypatch.setattr(type(store), "cat", merged_meanwhile)
    assert read(url) == written(1, 2, 3)


def test_a_damaged_line_is_left_out(url, caplog):
    dataset = ProvenanceDataset(filepath=url)
    assert not dataset.exists()
    line = {"node": "a", "parameters": {}, "code": {}, "inputs": {}}
    dataset.save(line)
    append(url, b"{half")
    assert dataset.load() == [line]
    assert caplog.messages == [f"{url}: left out damaged line 2"]
    assert dataset.exists()
    assert dataset.folder == url.rpartition("/")[0]
