"""Fingerprints of files."""

import os

import fsspec
import pytest

from closer_look.system import fingerprints
from closer_look.system.fingerprints import fingerprint, remember


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "model" / "inner").mkdir(parents=True)
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "model" / "inner" / "weights").write_text("1234")
    return tmp_path / "model"


def test_the_same_files_elsewhere_have_the_same_fingerprint(folder):
    before = fingerprint([str(folder)])
    moved = folder.rename(folder.with_name("moved"))
    assert fingerprint([str(moved)]).sha256 == before.sha256


@pytest.mark.parametrize("change", ["content", "name", "one more", "one less"])
def test_other_files_have_another_fingerprint(folder, change):
    before = fingerprint([str(folder)])
    weights = folder / "inner" / "weights"
    if change == "content":
        weights.write_text("1235")
    elif change == "name":
        weights.rename(weights.with_name("other"))
    elif change == "one more":
        (folder / "more").touch()
    else:
        weights.unlink()
    assert fingerprint([str(folder)]).sha256 != before.sha256


def test_a_folder_may_be_empty(tmp_path):
    assert fingerprint([str(tmp_path)]) == fingerprint([])


def test_a_file_of_another_size_is_read_again_whatever_its_time(folder):
    weights = folder / "inner" / "weights"
    os.utime(weights, (1, 1))
    before = fingerprint([str(folder)])
    weights.write_text("12345")
    os.utime(weights, (1, 1))
    assert fingerprint([str(folder)]).sha256 != before.sha256


def test_what_was_not_written_since_is_not_read_again(folder, monkeypatch):
    before = fingerprint([str(folder)])
    monkeypatch.setattr(fingerprints, "file_sha256", None)
    assert fingerprint([str(folder)]) == before
    os.utime(folder / "config.json", (1, 1))
    with pytest.raises(TypeError):
        fingerprint([str(folder)])


def test_what_an_earlier_process_has_read_is_not_read_again(folder, monkeypatch):
    before = fingerprint([str(folder)])
    monkeypatch.setattr(fingerprints, "_known", {})
    monkeypatch.setattr(fingerprints, "file_sha256", None)
    remember(before)
    assert fingerprint([str(folder)]) == before


def test_a_url_is_always_read(tmp_path, serve):
    (tmp_path / "rows.jsonl").write_text("one")
    with serve(tmp_path) as address:
        before = fingerprint([f"{address}rows.jsonl"])
        (tmp_path / "rows.jsonl").write_text("two")
        assert fingerprint([f"{address}rows.jsonl"]).sha256 != before.sha256


def test_an_object_in_a_bucket_is_read_once(tmp_path, monkeypatch):
    url = f"memory://bucket/{tmp_path.name}/table"
    store = fsspec.filesystem("memory")
    store.pipe_file(f"/bucket/{tmp_path.name}/table", b"one")
    before = fingerprint([url])
    with monkeypatch.context() as unread:
        unread.setattr(fingerprints, "file_sha256", None)
        assert fingerprint([url]) == before
    store.pipe_file(f"/bucket/{tmp_path.name}/table", b"two")
    after = fingerprint([url])
    assert after.sha256 != before.sha256
    assert after.stamp != before.stamp
