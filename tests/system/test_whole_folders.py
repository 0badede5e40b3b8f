"""Folders in a bucket: whole or not there, and read through a cache."""

import json
import os
import shutil
from types import SimpleNamespace

import fsspec
import pytest

from closer_look.errors import InputError
from closer_look.system import whole_folders
from closer_look.system.processes import here
from closer_look.system.whole_folders import fetch, marker, names, remove_others, written


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CLOSER_LOOK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "folders"


@pytest.fixture
def url(tmp_path):
    return f"memory://bucket/{tmp_path.name}/model"


@pytest.fixture
def store():
    return fsspec.filesystem("memory")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """From now on this is another machine, which has nothing yet."""

    def elsewhere():
        monkeypatch.setenv("CLOSER_LOOK_CACHE", str(tmp_path / "other"))
        monkeypatch.setattr(whole_folders, "_verified", {})
        return tmp_path / "other" / "folders"

    return elsewhere


def write(url, content="1"):
    with written(url) as folder:
        (folder / "inner").mkdir(parents=True)
        (folder / "config.json").write_text(content)
        (folder / "inner" / "weights").write_text(content * 2)


def read(url):
    folder = fetch(url)
    return [(folder / name).read_text() for name in ("config.json", "inner/weights")]


def test_what_one_machine_has_written_another_reads(url, elsewhere):
    write(url)
    elsewhere()
    assert read(url) == ["1", "11"]
    assert names(url) == ["config.json", "inner/weights"]


def test_the_same_files_have_the_same_name_and_marker(url, store):
    write(url)
    write(f"{url}2")
    assert store.cat(marker(url)) == store.cat(marker(f"{url}2"))


def test_what_this_machine_has_is_not_downloaded(url, monkeypatch):
    write(url)
    monkeypatch.setattr(whole_folders, "_download", None)
    assert read(url) == ["1", "11"]


def test_replaced_files_are_deleted(url, store):
    write(url)
    write(url, "2")
    assert read(url) == ["2", "22"]
    assert len(store.find(url)) == 3


def test_an_error_while_writing_leaves_what_was_there(url, store, cache):
    write(url)
    with pytest.raises(RuntimeError), written(url) as folder:
        folder.mkdir()
        (folder / "config.json").write_text("half")
        raise RuntimeError
    assert read(url) == ["1", "11"]
    assert len(store.find(url)) == 3
    assert len(os.listdir(cache)) == 1


def test_a_half_upload_is_no_folder_and_is_removed(url, store):
    """Its process was killed before it wrote the marker; beside it, a whole folder stays."""
    path = url.removeprefix("memory://")
    store.pipe_file(f"/{path}/files-0123/config.json", b"half")
    assert names(url) == []
    write(f"{url}/nested")
    remove_others(url)
    assert not [one for one in store.find(path) if "files-0123" in one]
    assert read(f"{url}/nested") == ["1", "11"]


def test_a_damaged_file_of_the_cache_is_downloaded_again(url, cache, monkeypatch):
    write(url)
    (folder,) = cache.iterdir()
    for damage in (lambda path: path.write_text("33"), lambda path: path.unlink()):
        damage(folder / "inner" / "weights")
        monkeypatch.setattr(whole_folders, "_verified", {})  # of another process
        assert read(url) == ["1", "11"]


def test_a_damaged_file_that_this_process_has_checked_before_is_found(url, cache):
    write(url)
    read(url)
    (folder,) = cache.iterdir()
    (folder / "config.json").write_text("3")
    assert read(url) == ["1", "11"]


def test_a_damaged_file_in_the_bucket_is_refused(url, store, elsewhere):
    write(url)
    (path,) = [path for path in store.find(url) if path.endswith("weights")]
    store.pipe_file(path, b"33")
    cache = elsewhere()
    with pytest.raises(InputError) as caught:
        fetch(url)
    assert str(caught.value) == (
        f"{url}: the files in the bucket are damaged; delete complete.json there, and make the "
        f"folder anew with --only-missing-outputs"
    )
    assert os.listdir(cache) == []


def test_a_file_missing_in_the_bucket_is_refused(url, store, elsewhere):
    write(url)
    (path,) = [path for path in store.find(url) if path.endswith("weights")]
    store.rm_file(path)
    elsewhere()
    with pytest.raises(InputError, match=r"model: .*weights is missing in the bucket; delete"):
        fetch(url)


def test_a_folder_replaced_while_it_is_read_is_read_again(url, elsewhere, monkeypatch):
    write(url)
    elsewhere()
    make_room = whole_folders.make_room
    changes = ["2"]

    def replaced_meanwhile(needed):
        make_room(needed)
        if changes:
            write(url, changes.pop())

    monkeypatch.setattr(whole_folders, "make_room", replaced_meanwhile)
    assert read(url) == ["2", "22"]


@pytest.fixture
def disk(monkeypatch):
    """A disk on which each folder of the cache takes 100 MB; 100 MB are free beside them."""

    def usage(cache):
        n_folders = len([*cache.glob("files-*")])
        return SimpleNamespace(free=(400 - 100 * n_folders) * 2**20)

    monkeypatch.setattr(shutil, "disk_usage", usage)


def test_what_was_not_used_for_the_longest_makes_room(url, cache, disk, monkeypatch):
    monkeypatch.setattr(whole_folders, "IN_USE_SECONDS", -1)
    for content in "123":
        write(f"{url}{content}", content)
    for content in "213":
        os.utime(fetch(f"{url}{content}"), (int(content), int(content)))
    whole_folders.make_room(150 * 2**20)
    assert read(f"{url}3") == ["3", "33"]
    kept = {(folder / "config.json").read_text() for folder in cache.iterdir()}
    assert kept == {"2", "3"}


def test_no_room_even_so(url, cache, disk):
    for content in "123":
        write(f"{url}{content}", content)
    with pytest.raises(InputError) as caught:
        whole_folders.make_room(150 * 2**20)
    assert str(caught.value) == (
        f"{cache}: the model needs 150 MB, the disk has 100 MB left; free some space, or name a "
        f"folder of another disk in the environment variable CLOSER_LOOK_CACHE"
    )
    assert len([*cache.iterdir()]) == 3  # all of them were used just now


def test_what_a_killed_process_left_in_the_cache_is_removed(url, cache):
    left = cache / f"files-01.{here()}.{2**22 + 1}.partial"
    of_others = cache / "files-01.another-machine.1.partial"
    left.mkdir(parents=True)
    of_others.mkdir()
    whole_folders.make_room(1)
    assert [*cache.iterdir()] == [of_others]


def test_the_marker_names_files_by_their_hashes(url, store):
    write(url)
    file = json.loads(store.cat(marker(url)))["files"]["config.json"]
    sha256 = "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"  # of "1"
    assert file == {"sha256": sha256, "bytes": 1}


@pytest.mark.parametrize(
    "content",
    [
        "{half",
        "[]",
        '{"folder": "files-1"}',
        '{"folder": "../files-1", "files": {}}',
        '{"folder": "files-1", "files": {"/etc/passwd": {"bytes": 1}}}',
        '{"folder": "files-1", "files": {"../config.json": {"bytes": 1}}}',
    ],
)
def test_a_marker_that_is_damaged_or_leads_elsewhere_is_refused(url, store, content):
    store.pipe_file(marker(url), content.encode())
    with pytest.raises(InputError) as caught:
        fetch(url)
    assert str(caught.value).endswith(
        "/model/complete.json is damaged; delete it, and make the folder anew with "
        "--only-missing-outputs"
    )
