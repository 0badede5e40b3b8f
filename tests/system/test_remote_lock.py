"""The lock of a run in a bucket."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress

import fsspec
import psutil
import pytest

from closer_look.errors import InputError
from closer_look.system import remote_lock
from closer_look.system.processes import here
from closer_look.system.run_lock import lock_run

HERE = socket.gethostname()


@pytest.fixture
def url(tmp_path):
    return f"memory://bucket/{tmp_path.name}/08_reporting/people"


@pytest.fixture
def owners(url):
    """The objects of those who hold the lock, or want to."""
    store = fsspec.filesystem("memory")

    def owners():
        return [json.loads(store.cat_file(path)) for path in store.find(f"{url}/run.lock")]

    return owners


@pytest.fixture
def held_by(url):
    """Let another process hold the lock."""

    def held_by(host, process, started=1.0, place=None):
        owner = {"host": host, "process": process, "started": started, "since": "2026-01-01 10:00"}
        owner["here"] = place or here().replace(HERE, host)
        store = fsspec.filesystem("memory")
        store.pipe_file(f"{url}/run.lock/other.json", json.dumps(owner).encode())

    return held_by


def test_a_second_run_of_a_name_stops_at_once(url, owners):
    lock = lock_run(url)
    (owner,) = owners()
    with pytest.raises(InputError) as caught:
        lock_run(url)
    assert str(caught.value) == (
        f"another process is working on run 'people' (process {os.getpid()} of {HERE}, since "
        f"{owner['since']}); wait until it has ended, or give this run another name: "
        f"--params run=NAME"
    )
    assert owners() == [owner]
    lock.release(force=True)
    lock.release()
    assert owners() == []
    lock_run(url).release()


def test_a_process_of_another_machine_holds_it_while_it_renews_it(url, held_by, owners):
    held_by("another-machine", os.getpid())
    with pytest.raises(InputError, match=r"process \d+ of another-machine, since 2026-01-01 10:00"):
        lock_run(url)
    assert len(owners()) == 1


def test_a_lock_that_is_no_longer_renewed_is_taken_over(url, held_by, owners, monkeypatch, caplog):
    held_by("another-machine", 12)
    monkeypatch.setattr(remote_lock, "STALE_SECONDS", 0)
    lock = lock_run(url)
    assert [owner["host"] for owner in owners()] == [HERE]
    assert caplog.messages == [
        "Run 'people' is taken over from process 12 of another-machine, which has died"
    ]
    lock.release()


def test_a_lock_of_a_dead_process_of_this_machine_is_taken_over_at_once(url, held_by, owners):
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    held_by(HERE, dead.pid)
    lock = lock_run(url)
    assert [owner["process"] for owner in owners()] == [os.getpid()]
    lock.release()


def test_another_process_that_has_the_number_of_a_dead_one_holds_nothing(url, held_by):
    held_by(HERE, os.getpid(), started=1.0)
    lock_run(url).release()


@pytest.mark.parametrize("other", ["boot", "container"])
def test_a_machine_or_container_with_the_name_of_this_one_holds_it(url, held_by, other):
    """Its processes have numbers of their own."""
    boot, _, container = here().removeprefix(f"{HERE}-").rpartition("-")
    parts = {"boot": boot, "container": container} | {other: "1"}
    with subprocess.Popen([sys.executable, "-c", ""]) as dead:
        dead.wait()
    held_by(HERE, dead.pid, place=f"{HERE}-{parts['boot']}-{parts['container']}")
    with pytest.raises(InputError, match=f"process {dead.pid} of {HERE}, since 2026-01-01 10:00"):
        lock_run(url)


def test_a_clock_that_is_set_kills_nobody(url, monkeypatch):
    lock = lock_run(url)
    set_back = psutil.boot_time() - 3600
    monkeypatch.setattr(psutil._psplatform, "boot_time", lambda: set_back)
    with pytest.raises(InputError, match="another process is working on run 'people'"):
        lock_run(url)
    lock.release()


def test_it_is_renewed(url, monkeypatch):
    monkeypatch.setattr(remote_lock, "BEAT_SECONDS", 0.01)
    lock = lock_run(url)
    first = lock.filesystem.modified(lock.path)
    deadline = time.monotonic() + 10
    while lock.filesystem.modified(lock.path) == first and time.monotonic() < deadline:
        time.sleep(0.01)
    assert lock.filesystem.modified(lock.path) > first
    lock.release()


def test_a_store_that_does_not_answer_once_does_not_end_the_run(url, owners, monkeypatch):
    monkeypatch.setattr(remote_lock, "BEAT_SECONDS", 0.01)
    lock = lock_run(url)
    faults = [OSError("no answer")] * 2
    write = lock._write

    def fails_twice():
        if faults:
            raise faults.pop()
        write()

    monkeypatch.setattr(lock, "_write", fails_twice)
    deadline = time.monotonic() + 10
    while faults and time.monotonic() < deadline:
        time.sleep(0.01)
    assert faults == []
    assert len(owners()) == 1
    lock.release()


def test_a_run_whose_lock_was_taken_over_stops(url, monkeypatch, caplog):
    monkeypatch.setattr(remote_lock, "BEAT_SECONDS", 0.01)
    lock = lock_run(url)
    with pytest.raises(KeyboardInterrupt):
        for _ in range(200):  # it may be written once more by a renewal under way
            with suppress(FileNotFoundError):
                lock.filesystem.rm_file(lock.path)
            time.sleep(0.05)
    assert caplog.messages == [
        "Run 'people' was taken over by another process, as this one was silent for 120 seconds; "
        "it stops here"
    ]
    lock.release()


def test_a_run_in_the_background_stops_too():
    """Started by a script, it ignores interrupts."""
    script = """
import signal, time
from closer_look.system import remote_lock
signal.signal(signal.SIGINT, signal.SIG_IGN)
remote_lock.BEAT_SECONDS = 0.01
lock = remote_lock.RemoteLock("memory://bucket/run")
lock._write = lambda: None
lock.filesystem.rm_file(lock.path)
time.sleep(60)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)  # noqa: S603
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("last", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_swallows_signals_stops_too(last):
    """As Ray Train does with interrupts."""
    script = f"""
import signal, time
from closer_look.system import remote_lock
for number in {[int(one) for one in (signal.SIGINT, signal.SIGTERM) if one != last]}:
    signal.signal(number, lambda *args: None)
remote_lock.BEAT_SECONDS, remote_lock.SECONDS_TO_STOP = 0.01, 0.1
lock = remote_lock.RemoteLock("memory://bucket/run")
lock._write = lambda: None
lock.filesystem.rm_file(lock.path)
time.sleep(10)
"""
    done = subprocess.run([sys.executable, "-c", script], check=False)  # noqa: S603
    assert done.returncode == -last


def test_an_error_at_the_end_is_logged_and_hides_no_other(url, monkeypatch, caplog):
    lock = lock_run(url)
    monkeypatch.setattr(lock.filesystem, "rm_file", lambda path: 1 / 0)
    lock.release()
    assert caplog.messages == ["The lock of run 'people' stays for 120 seconds (division by zero)"]
    monkeypatch.undo()
    lock.filesystem.rm_file(lock.path)


def test_an_interrupted_process_lets_go(tmp_path):
    """Kedro calls no hook then."""
    script = """
import sys
from closer_look.system.run_lock import lock_run
lock = lock_run(sys.argv[1])
print(lock.filesystem.ls(lock.path), flush=True)
import atexit
atexit._run_exitfuncs()
print(lock.filesystem.exists(lock.path))
"""
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", script, "memory://bucket/run"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "False"
