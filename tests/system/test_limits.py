"""Work within limits of time and memory."""

import os
import time

import pytest

from closer_look.system import limits
from closer_look.system.limits import LimitExceededError, within_limits

ROOM = 2**28


def test_result_of_the_work_comes_back():
    assert within_limits(lambda: {"process": os.getpid() != parent}, 5, ROOM) == {"process": True}


parent = os.getpid()


def test_what_the_work_raises_is_raised():
    with pytest.raises(ZeroDivisionError):
        within_limits(lambda: 1 / 0, 5, ROOM)


def endless():
    while True:
        pass


def test_time_of_the_clock_is_limited_too(monkeypatch):
    monkeypatch.setattr(limits, "ON_A_BUSY_MACHINE", 1.5)
    started = time.monotonic()
    with pytest.raises(LimitExceededError, match="takes more than 1 seconds"):
        within_limits(lambda: time.sleep(60), 1, ROOM)
    assert time.monotonic() - started < 30  # of a minute


@pytest.mark.parametrize("work", [endless, lambda: 9**9**9])
def test_time_is_limited(work):
    started = time.monotonic()
    with pytest.raises(LimitExceededError, match="takes more than 1 seconds"):
        within_limits(work, 1, ROOM)
    assert time.monotonic() - started < 30  # of for ever


def test_memory_is_limited():
    with pytest.raises(LimitExceededError, match="takes more than 256 MB of memory"):
        within_limits(lambda: bytearray(2**30), 5, ROOM)
    assert within_limits(lambda: len(bytearray(2**20)), 5, ROOM) == 2**20


def test_code_that_is_not_of_python_and_finds_no_memory_is_given_up(capfd):
    with pytest.raises(LimitExceededError, match="takes more than 256 MB of memory"):
        within_limits(lambda: (os.write(2, b"memory allocation failed"), os.abort()), 5, ROOM)
    assert capfd.readouterr().err == ""
