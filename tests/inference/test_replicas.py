"""Rows that several copies of a model share get what they get in one process."""

import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.inference import replicas
from closer_look.inference.generation import generate
from closer_look.inference.replicas import on_replicas
from closer_look.inference.scoring import score

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
