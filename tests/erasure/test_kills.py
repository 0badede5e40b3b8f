"""A service that is killed anywhere: nothing is lost, nothing is served twice."""

import errno
import os
import random
import signal
import sys
import traceback
from functools import partial

import pytest
from kedro.io import DatasetError

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.erasure import book as books

N_KILLS = 30
ROUND = "abc"  # requests that arrive together


def in_a_process(serve, calls=0):
    """Serve in a fork, which kills itself (SIGKILL) at the n-th call of any function.

    Returns:
        Whether it came to its end.
    """

    def count(frame, event, argument):
        nonlocal calls
        calls -= 1
        if calls == 0 and os.getppid() == here:  # its own copies, which check files, live on
            os.kill(os.getpid(), signal.SIGKILL)

    here = os.getpid()
    process = os.fork()
    if process == 0:
        sys.setprofile(count if calls else None)
        try:
            serve()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(process, 0)
    assert os.WIFSIGNALED(status) or status == 0
    return status == 0


def count_calls(serve):
    """Count the calls of functions, of which one is drawn later."""
    counted = 0

    def count(frame, event, argument):
        nonlocal counted
        counted += 1

    sys.setprofile(count)
    try:
        serve()
    finally:
        sys.setprofile(None)
    return counted


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_random_kills(bench):
    arrived = []

    def arrive():
        for one in ROUND:
            arrived.append(f"{len(arrived):03d}-{one}")
            bench.drop(arrived[-1])

    arrive()
    bench.serve()  # what it imports is not to be counted
    arrive()
    n_calls = count_calls(bench.serve)
    drawn = random.Random(1)  # noqa: S311
    kills = 0
    while kills < N_KILLS:
        arrive()
        is_done = False
        while not is_done:
            serve = partial(bench.serve, batch=drawn.choice(["each", "all"]), recheck_rows=4)
            is_done = in_a_process(serve, drawn.randrange(1, n_calls))
            kills += not is_done
            bench.check()
    assert sorted(bench.check()) == arrived
    assert {kind for _, kind in bench.kinds} == {"served"}


def test_a_full_disk_leaves_the_old_model_current(bench, monkeypatch):
    bench.drop("a")
    bench.serve()
    bench.drop("b")

    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for owner, name in (
        (CausalLMDataset, "_write"),
        (books.Book, "keep"),
        (type(bench.ledger), "append"),
    ):
        with (
            monkeypatch.context() as patch,
            pytest.raises((OSError, DatasetError), match="No space"),
        ):
            patch.setattr(owner, name, lambda *arguments, **options: full())
            bench.serve()
        assert bench.check() == ["a"]
        assert bench.current.model.config.forgotten == ["Subject of a"]
    bench.serve()
    assert bench.check() == ["a", "b"]
    assert not list(bench.path.glob("models/*.partial"))
