"""Paths that may be URLs."""

from pathlib import Path

import pytest

from closer_look.errors import InputError
from closer_look.system.storage import cache_folder, names_in, opened, shown, usable, working_folder


def test_the_cache_is_where_the_user_has_caches_or_wants_it(monkeypatch, tmp_path):
    monkeypatch.delenv("CLOSER_LOOK_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_folder() == Path.home() / ".cache" / "closer_look"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "closer_look"
    monkeypatch.setenv("CLOSER_LOOK_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"


def test_a_url_has_a_folder_of_this_machine(monkeypatch, tmp_path):
    monkeypatch.setenv("CLOSER_LOOK_CACHE", str(tmp_path))
    assert working_folder("s3://bucket/x/run.checkpoints") == (
        tmp_path / "work" / "s3" / "bucket" / "x" / "run.checkpoints"
    )
    assert working_folder("data/x") == Path("data/x")


def test_a_log_shows_paths_from_here_and_whole_urls():
    assert shown(Path.cwd() / "data" / "report.html") == "data/report.html"
    assert shown("s3://bucket/report.html") == "s3://bucket/report.html"


def test_a_path_in_a_bucket_has_single_slashes_as_kedro_writes_it():
    assert opened("memory://bucket//x/")[1] == "/bucket/x"


def test_names_in_a_folder(tmp_path):
    (tmp_path / "one").mkdir()
    assert names_in(str(tmp_path)) == ["one"]
    assert names_in(str(tmp_path / "other")) == []
    url = f"memory://bucket/{tmp_path.name}"
    filesystem, path = opened(url)
    filesystem.pipe_file(f"{path}/a/b", b"")
    assert names_in(url) == ["a"]
    assert names_in(f"{url}/c") == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            FileNotFoundError("The specified bucket does not exist"),
            "(The specified bucket does not exist); create the bucket, or name another one",
        ),
        (
            PermissionError("Access Denied."),
            "(Access Denied.); these credentials need leave to list, read and write",
        ),
        (
            ValueError("Unable to locate credentials\nat all"),
            "(Unable to locate credentials); check credentials, endpoint and network",
        ),
    ],
)
def test_the_first_error_of_a_storage_is_one_line(error, said):
    with pytest.raises(InputError) as caught, usable("s3://bucket/x"):
        raise error
    assert str(caught.value) == (
        f"s3://bucket/x cannot be used {said}, or keep the artefacts in a folder: "
        f"--params data=FOLDER"
    )


def test_an_input_error_stays_as_it_is():
    with pytest.raises(InputError, match=r"^mine$"), usable("s3://bucket/x"):
        raise InputError("mine")
