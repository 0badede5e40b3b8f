"""Files that appear when they are whole: what a crash or an error leaves behind."""

import errno
import io
import os
import signal
import subprocess
import sys

import pandas as pd
import pytest
from kedro.io import DatasetError
from kedro_datasets.json import JSONDataset
from kedro_datasets.pandas import ParquetDataset
from kedro_datasets.text import TextDataset

from closer_look.datasets.whole_files import WholeFileSystem, write_whole_files


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
