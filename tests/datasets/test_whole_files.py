"""Files that appear when they are whole: what a crash or an error leaves behind."""

import errno
import io
import os
import signal
import subprocess
import sys

import fsspec
import pandas as pd
import pytest
from kedro.io import DatasetError
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.text import TextDataset

from closer_look.datasets.whole_files import (
    WholeFileSystem,
    WholeUploads,
    upload_whole_files,
    write_whole_files,
)
from closer_look.errors import InputError


@pytest.fixture
def files():
    return WholeFileSystem()


def test_a_file_has_its_name_when_it_is_closed(files, tmp_path):
    path = tmp_path / "table"
    with files.open(str(path), "wb") as file:
        file.write(b"half")
        file.flush()
        assert not path.exists()
        file.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert os.listdir(tmp_path) == ["table"]


WRITE = """
from closer_look.datasets.whole_files import write_whole_files
from kedro_datasets.text import TextDataset
import locale, sys
assert locale.getpreferredencoding() != "UTF-8"
write_whole_files()
dataset = TextDataset(filepath=sys.argv[1])
dataset.save("\\u6797\\u6653")
assert dataset.load() == "\\u6797\\u6653"
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_text_is_in_utf8_whatever_the_locale(tmp_path):
    path = tmp_path / "report.html"
    command = [sys.executable, "-c", WRITE, str(path)]
    subprocess.run(command, env=os.environ | ASCII, check=True)  # noqa: S603
    assert path.read_bytes().decode() == "林晓"


def test_an_error_leaves_the_file_as_it_was(files, tmp_path):
    path = tmp_path / "table"
    path.write_bytes(b"before")
    with pytest.raises(ZeroDivisionError), files.open(str(path), "wb") as file:
        file.write(b"half")
        file.write(1 / 0)
    assert path.read_bytes() == b"before"
    assert os.listdir(tmp_path) == ["table"]


def test_an_error_leaves_a_text_as_it_was(files, tmp_path):
    path = tmp_path / "text"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), files.open(str(path), "w") as file:
        file.write("half")
        file.write(1 / 0)
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["text"]


def test_a_json_that_breaks_off_is_no_file(tmp_path):
    write_whole_files()
    dataset = JSONDataset(filepath=str(tmp_path / "figure.json"))
    with pytest.raises(DatasetError, match="not JSON serializable"):
        dataset.save({"first": 1, "second": object()})
    assert not dataset.exists()
    assert os.listdir(tmp_path) == []


class _NoSpace(io.RawIOBase):
    def writable(self):
        return True

    def write(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("mode", ["wb", "w"])
@pytest.mark.parametrize("size", [1, 10**6])
def test_a_disk_that_is_full_when_the_file_is_closed_leaves_nothing(files, tmp_path, mode, size):
    with pytest.raises(OSError) as caught, files.open(str(tmp_path / "table"), mode) as file:
        whole = file if mode == "wb" else file.buffer
        whole.f = io.BufferedWriter(_NoSpace())
        file.write(b"a" * size if mode == "wb" else "a" * size)
    assert caught.value.errno == errno.ENOSPC
    assert os.listdir(tmp_path) == []


def test_a_reader_that_closes_the_file_itself_does_no_harm(files, tmp_path):
    with files.open(str(tmp_path / "table"), "wb") as file:
        file.write(b"all")
        file.close()
    assert (tmp_path / "table").read_bytes() == b"all"


@pytest.mark.parametrize(("mode", "expected"), [("a", "onetwo"), ("w", "two")])
def test_text_is_appended_or_replaced(files, tmp_path, mode, expected):
    path = tmp_path / "text"
    path.write_text("one")
    with files.open(str(path), mode) as file:
        file.write("two")
    assert path.read_text() == expected
    with files.open(str(path), "r") as file:
        assert file.read() == expected


def test_files_of_a_transaction_have_their_names_at_its_end(files, tmp_path):
    with files.transaction:
        with files.open(str(tmp_path / "table"), "wb") as file:
            file.write(b"all")
        assert os.listdir(tmp_path) == []
    assert (tmp_path / "table").read_bytes() == b"all"


@pytest.mark.parametrize("dataset", [ParquetDataset, JSONDataset, TextDataset])
def test_datasets_of_kedro_write_that_way(tmp_path, dataset):
    write_whole_files()
    entry = dataset(filepath=str(tmp_path / "new" / "file"))
    assert isinstance(entry._fs, WholeFileSystem)
    data = pd.DataFrame({"a": [1]}) if dataset is ParquetDataset else "text"
    entry.save(data)
    assert str(entry.load()) == str(data)
    assert os.listdir(tmp_path / "new") == ["file"]


def test_a_killed_process_leaves_no_file_of_that_name(tmp_path):
    code = (
        "import os, signal, sys\n"
        "from closer_look.datasets.whole_files import WholeFileSystem\n"
        "with WholeFileSystem().open(sys.argv[1], 'wb') as file:\n"
        "    file.write(b'half')\n"
        "    file.flush()\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    path = tmp_path / "report.html"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)  # noqa: S603
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(os.listdir(tmp_path)) == 1


@pytest.fixture
def remote(tmp_path):
    """URL of a folder in a bucket."""
    url = f"memory://bucket/{tmp_path.name}"
    upload_whole_files([url])
    return url


def test_an_object_is_there_when_it_is_closed(remote):
    store = fsspec.filesystem("memory")
    path = f"{remote}/table"
    with store.open(path, "wb") as file:
        file.write(b"half")
        file.flush()
        assert not store.exists(path)
        file.write(b" and half")
    assert store.cat_file(path) == b"half and half"
    file.close()
    assert store.cat_file(path) == b"half and half"


@pytest.mark.parametrize("mode", ["w", "wb"])
def test_an_error_while_writing_leaves_no_object(remote, mode):
    store = fsspec.filesystem("memory")
    half = "half" if mode == "w" else b"half"
    with pytest.raises(KeyboardInterrupt), store.open(f"{remote}/table", mode) as file:
        file.write(half)
        raise KeyboardInterrupt
    assert not store.exists(f"{remote}/table")


def test_datasets_leave_no_half_object(remote):
    dataset = JSONDataset(filepath=f"{remote}/table.json")
    with pytest.raises(DatasetError):
        dataset.save({"a": 1, "b": object()})
    assert not dataset.exists()
    dataset.save({"a": "\u6797"})
    assert dataset.load() == {"a": "\u6797"}


def test_listings_are_not_remembered(remote):
    assert not fsspec.filesystem("memory").dircache.use_listings_cache


def test_file_systems_are_prepared_once(remote):
    prepared = fsspec.get_filesystem_class("memory")
    upload_whole_files([remote, "https://host/rows", "file:///tmp"])
    assert fsspec.get_filesystem_class("memory") is prepared
    assert not issubclass(fsspec.get_filesystem_class("https"), WholeUploads)


def test_an_unknown_protocol_is_named():
    with pytest.raises(InputError) as caught:
        upload_whole_files(["foo://bucket/x"])
    assert str(caught.value) == (
        "'foo://bucket/x': 'foo' is no protocol of a storage that fsspec knows; use a folder, or a "
        "URL such as s3://BUCKET/FOLDER"
    )


@pytest.mark.parametrize(
    ("url", "how"),
    [("s3://bucket/x", "pip install 'closer-look[s3]'"), ("gs://bucket/x", "Install gcsfs")],
)
def test_a_package_that_is_not_installed_is_named(monkeypatch, url, how):
    def missing(protocol):
        raise ImportError("Install gcsfs")

    monkeypatch.setattr(fsspec, "get_filesystem_class", missing)
    with pytest.raises(InputError) as caught:
        upload_whole_files([url])
    assert str(caught.value) == f"'{url}': its package is not installed; {how}"
