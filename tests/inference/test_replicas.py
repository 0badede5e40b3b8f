"""Rows that several copies of a model share get what they get in one process."""

import shutil
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from closer_look.errors import InputError
from closer_look.inference import replicas
from closer_look.inference.generation import generate
from closer_look.inference.replicas import on_replicas
from closer_look.inference.scoring import score
from closer_look.system import memory

QUESTIONS = [f"Question {n % 3} of {'abc' * n}?" for n in range(7)]
SHARED = {"parameter": "scoring.workers", "description": "Scoring"}


@pytest.fixture(scope="module")
def ray_of_two():
    import ray

    from closer_look.system.cluster import connect

    connect()
    yield ray
    ray.shutdown()


def test_scores_answers_and_errors_of_two_replicas(ray_of_two, language_model):
    columns = {"questions": QUESTIONS, "answers": QUESTIONS[::-1]}
    options = SHARED | {"batch_size": 2}
    one, two = (on_replicas(score, language_model, columns, n_workers=n, **options) for n in (1, 2))
    pd.testing.assert_frame_equal(two, one, rtol=1e-5)

    columns = {"questions": QUESTIONS, "openings": [[5]] * 7}
    options |= {"max_length": 80}
    one, two = (
        on_replicas(generate, language_model, columns, n_workers=n, **options) for n in (1, 2)
    )
    pd.testing.assert_frame_equal(two, one)

    with pytest.raises(InputError, match=r"^parameter generation\.max_length: 9 leaves no room"):
        on_replicas(generate, language_model, columns, n_workers=2, **options | {"max_length": 9})


def test_replicas_share_the_device_and_threads_of_their_process(language_model, monkeypatch):
    """Stand-ins for Ray, and for a GPU whose allocator keeps what a model has left."""
    import ray

    asked, cleared = [], []

    def remote(**options):
        assert cleared == [{"garbage_collection": True}]
        asked.append(options)
        return lambda function: SimpleNamespace(remote=lambda *arguments: len(asked))

    monkeypatch.setattr(memory, "clear_device_cache", lambda **options: cleared.append(options))
    monkeypatch.setattr(ray, "remote", remote)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(replicas, "check_workers", lambda *arguments: None)
    monkeypatch.setattr(replicas, "this_machine", lambda: "ab" * 28)
    monkeypatch.setattr(replicas, "device_kind", lambda: "CPU")
    monkeypatch.setattr(
        replicas,
        "_ended",
        lambda started, _: [(pd.DataFrame({"n": part}), part) for part in started.values()],
    )
    found = on_replicas(score, language_model, {"questions": QUESTIONS}, n_workers=2, **SHARED)
    assert [*found["n"]] == [*range(7)]
    threads = [options["runtime_env"]["env_vars"]["OMP_NUM_THREADS"] for options in asked]
    assert threads == ["3", "3"]


def test_no_room_for_the_file_through_which_the_model_goes(language_model, monkeypatch):
    monkeypatch.setattr(replicas, "check_workers", lambda *arguments: None)
    monkeypatch.setattr(replicas, "this_machine", lambda: "here")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=3 * 2**20))
    with pytest.raises(InputError, match=r"^parameter scoring\.workers: .* 3 MB left; .*TMPDIR"):
        on_replicas(score, language_model, {"questions": QUESTIONS}, n_workers=2, **SHARED)


def test_replica_that_dies(language_model, monkeypatch):
    import ray

    def dies(reference):
        raise ray.exceptions.WorkerCrashedError

    monkeypatch.setattr(ray, "wait", lambda left: (left[:1], left[1:]))
    monkeypatch.setattr(ray, "get", dies)
    with pytest.raises(InputError, match=r"Scoring: a worker has ended .* --only-missing-outputs"):
        list(replicas._ended({"reference": [0]}, "Scoring"))


def test_more_replicas_than_this_machine_has_devices(language_model, monkeypatch):
    def none_left(n_workers, parameter, machine):
        raise InputError(f"{parameter} {n_workers} {machine}")

    monkeypatch.setattr(replicas, "this_machine", lambda: "here")
    monkeypatch.setattr(replicas, "check_workers", none_left)
    with pytest.raises(InputError, match=r"scoring\.workers 3 here"):
        on_replicas(score, language_model, {"questions": []}, n_workers=3, **SHARED)
