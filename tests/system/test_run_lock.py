"""Two runs of one name do not work beside each other."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest

from closer_look.errors import InputError
from closer_look.pipelines.forget_set import nodes
from closer_look.system.run_lock import lock_run

HOLD = """
import sys
from pathlib import Path
from closer_look.system.run_lock import lock_run
lock = lock_run(Path(sys.argv[1]))
print(lock is not None, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "08_reporting" / "test"


@pytest.fixture
def hold(folder):
    """Start a process that takes the lock and keeps it until it is killed."""
    started = []

    def hold():
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-c", HOLD, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process, process.stdout.readline().strip()

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_second_run_of_a_name_stops_at_once(kedro_run, hold, tmp_path):
    hold()
    with pytest.raises(InputError) as caught:
        kedro_run(tmp_path, "forget_set")
    assert str(caught.value) == (
        "another process is working on run 'test'; wait until it has ended, or give this run "
        "another name: --params run=NAME"
    )
    assert not (tmp_path / "03_primary").exists()


def test_a_run_that_has_ended_lets_go_though_its_process_stays(kedro_run, folder, tmp_path):
    """As a notebook's does."""
    kedro_run(tmp_path, "forget_set")
    lock_run(folder).release()


def test_a_run_that_has_failed_lets_go_though_its_process_stays(
    kedro_run, folder, tmp_path, monkeypatch
):
    def fails(*args):
        raise InputError("no")

    monkeypatch.setattr(nodes, "check_questions", fails)
    with pytest.raises(InputError, match="no"):
        kedro_run(tmp_path, "forget_set")
    lock_run(folder).release()


def test_a_run_that_was_interrupted_lets_go_though_its_process_stays(
    kedro_run, folder, tmp_path, monkeypatch
):
    """Kedro calls no hook then."""

    def is_interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(nodes, "check_questions", is_interrupted)
    with pytest.raises(KeyboardInterrupt):
        kedro_run(tmp_path, "forget_set")
    lock_run(folder).release()


def test_a_run_of_another_name_is_free(kedro_run, hold, tmp_path):
    hold()
    assert kedro_run(tmp_path, "forget_set", parameters={"run": "other"})
    assert not (tmp_path / "03_primary" / "test").exists()


def test_a_killed_run_lets_go(kedro_run, hold, tmp_path):
    process, _ = hold()
    process.kill()
    process.wait()
    assert kedro_run(tmp_path, "forget_set")


def test_a_run_that_was_refused_lets_go(kedro_run, folder, tmp_path):
    kedro_run(tmp_path, "forget_set")
    changed = {"experiment": {"n_tasks": 1}}
    for _ in range(2):
        with pytest.raises(InputError, match=r"questions was made with experiment\.n_tasks 2"):
            kedro_run(tmp_path, "forget_set", parameters=changed, only_missing_outputs=True)
    lock_run(folder).release()


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_and_the_run_goes_on(
    kedro_run, tmp_path, monkeypatch, caplog, code
):
    def flock(file, operation):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    assert kedro_run(tmp_path, "forget_set")
    (line,) = [record.message for record in caplog.records if "has no locks" in record.message]
    assert line == (
        f"The file system of {tmp_path}/08_reporting/test has no locks ({os.strerror(code)}): "
        f"nothing keeps a second process from working on run 'test'; see that there is none"
    )
