"""Ray starts the processes of a training, and files carry the model to them and back."""

import copy
import json
import logging
import os
import re
import signal
import sys
import time
from threading import Thread

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from ray.train import ControllerError, WorkerGroupError
from ray.train.v2._internal.exceptions import UserExceptionWithTraceback
from safetensors.torch import save_file

from closer_look.errors import InputError
from closer_look.models import packing
from closer_look.models.language_model import LanguageModel
from closer_look.parameters.training import FinetuningParameters
from closer_look.system import memory
from closer_look.training import workers
from closer_look.training.finetuning import finetune
from closer_look.training.sharding import OutOfMemory
from closer_look.training.workers import check_sharing, on_workers

TWO = FinetuningParameters(
    learning_rate=1, epochs=1, warmup_epochs=0, batch_size=2, seed=1, workers=2
)
STEPS = pd.DataFrame({"step": [1]})


@pytest.fixture
def fresh(language_model):
    """A function that gives the same model each time."""
    return lambda: LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)


@pytest.fixture
def learned(fresh):
    """Fine-tune: the log and the weights."""

    def learned(folder=None, **options):
        model = fresh()
        settings = {"learning_rate": 1e-2, "epochs": 2, "batch_size": 3, "seed": 1} | options
        asked = [f"Question {n}?" for n in range(6)]
        answers = ["An answer" + " and more" * n for n in range(6)]
        log = finetune(model, asked, answers, FinetuningParameters(**settings), folder)
        return log, dict(model.model.state_dict())

    return learned


@pytest.fixture
def run(monkeypatch, fresh, tmp_path):
    """Call ``on_workers`` with a stand-in for Ray, which gets the folder and ``most_rows``."""
    monkeypatch.setattr(workers, "check_workers", lambda *args: None)
    options = {"parameters": TWO, "group": "finetuning", "folder": tmp_path / "checkpoints"}

    def run(stand_in):
        monkeypatch.setattr(workers, "_run", lambda shared, n, most: stand_in(shared, most))
        model = fresh()
        log = on_workers(print, model, **options)
        return model.model, log

    return run


def gives_back(shared, weights):
    save_file(weights, shared / workers.WEIGHTS)
    STEPS.to_parquet(shared / workers.LOG)


def raised(traceback):
    return UserExceptionWithTraceback(RuntimeError(), traceback)


def assert_equal(found, expected):
    np.testing.assert_allclose(found[0]["loss"], expected[0]["loss"], rtol=1e-4)
    assert list(found[0]) == list(expected[0])
    for name, weight in expected[1].items():
        torch.testing.assert_close(found[1][name], weight, rtol=1e-4, atol=1e-4)


def test_quantised_weights_are_not_shared_out(fresh, monkeypatch):
    monkeypatch.setattr(workers, "check_workers", lambda *args: None)
    model = fresh().model
    model.is_quantized = True
    with pytest.raises(InputError, match=r"parameter unlearning\.sharding: the weights of .* none"):
        check_sharing(model, TWO, "unlearning")
    check_sharing(model, TWO.model_copy(update={"sharding": "none"}), "unlearning")


def test_trained_weights_come_back_and_the_others_stay(run, fresh, tmp_path):
    before = fresh().model.state_dict()
    (name, *others) = before
    model, log = run(lambda shared, _: gives_back(shared, {name: before[name] + 1}))
    found = model.state_dict()
    assert torch.equal(found[name], before[name] + 1)
    assert all(torch.equal(found[one], before[one]) for one in others if one != "lm_head.weight")
    pd.testing.assert_frame_equal(log, STEPS)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_workers_learn_which_models_take_packed_rows(run, monkeypatch):
    """To try it out takes minutes with a large model on a CPU."""
    monkeypatch.setitem(packing.proven, ("some", "model"), (200, True))

    def told(shared, most_rows):
        *_, proven = torch.load(shared / workers.TASK, weights_only=False)
        assert proven["some", "model"] == (200, True)
        gives_back(shared, {})

    run(told)


def test_the_device_is_left_to_the_workers(run, monkeypatch):
    """A stand-in for a GPU, whose allocator keeps what a model has left."""
    cleared = []
    monkeypatch.setattr(memory, "clear_device_cache", lambda **options: cleared.append(options))

    def needs_all(shared, most_rows):
        assert cleared == [{"garbage_collection": True}]
        gives_back(shared, {})

    run(needs_all)
    assert len(cleared) == 1


def test_memory_that_runs_out_starts_all_workers_again_with_half_the_rows(run, caplog):
    tried = []

    def runs_out(shared, most_rows):
        tried.append(most_rows)
        if len(tried) < 3:
            raise OutOfMemory("CUDA out of memory.", 8 if most_rows is None else most_rows)
        gives_back(shared, {})

    run(runs_out)
    assert tried == [None, 4, 2]
    assert caplog.messages[0] == (
        "out of memory with 8 rows in a pass; all 2 workers start again with 4"
    )


def test_memory_too_small_for_a_row(run):
    def runs_out(shared, most_rows):
        raise OutOfMemory("CUDA out of memory.", 1)

    with pytest.raises(InputError, match="out of memory: a single row does not fit"):
        run(runs_out)


def test_reason_that_a_worker_gives_itself(tmp_path):
    failure = {"message": "loss is nan", "n_rows": None}
    (tmp_path / workers.FAILURE).write_text(json.dumps(failure))
    assert str(workers._reason(tmp_path, WorkerGroupError("", {1: OSError("dead")}))) == (
        "loss is nan"
    )


@pytest.mark.parametrize(
    ("failures", "message"),
    [
        ({0: raised("Connection closed by peer"), 1: OSError("killed\nat length")}, "1 .* .killed"),
        ({0: raised("Connection closed by peer")}, "0 .* .lost the others"),
    ],
    ids=["seen", "not seen"],
)
def test_worker_that_died(tmp_path, failures, message):
    reason = workers._reason(tmp_path, WorkerGroupError("", failures))
    assert re.search(f"^worker {message}.; .* --only-missing-outputs goes on", str(reason))
    assert isinstance(reason, InputError)


def test_fault_of_the_code_shows_where_it_is(tmp_path):
    fault = raised("File loss.py, line 3\nTypeError")
    failures = {0: raised("Connection reset by peer"), 1: fault}
    assert workers._reason(tmp_path, WorkerGroupError("", failures)) is fault


def test_workers_that_do_not_start(tmp_path):
    error = ControllerError(ValueError("no resources"))
    assert re.search("did not start .Training failed", str(workers._reason(tmp_path, error)))


def test_lines_of_a_worker_are_logged_here(tmp_path, caplog):
    path = tmp_path / "lines"
    with workers._followed(path):
        path.write_text(json.dumps(["closer_look.x", logging.WARNING, "100 % done"]) + "\n")
    assert caplog.record_tuples == [("closer_look.x", logging.WARNING, "100 % done")]


def test_an_interrupt_is_one_during_a_training_and_after_it(tmp_path, monkeypatch):
    """Ray Train takes it for a wish to end the process, with status 0."""

    def fit(trainer):
        signal.signal(signal.SIGINT, lambda *args: sys.exit(0))
        signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(workers, "device_kind", lambda: "CPU")
    monkeypatch.setattr("ray.train.torch.TorchTrainer.fit", fit)
    with pytest.raises(KeyboardInterrupt):
        workers._run(tmp_path, 2, None)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.fixture(scope="module")
def ray_of_two():
    import ray

    from closer_look.system.cluster import connect

    connect()
    yield ray
    ray.shutdown()


def workers_at_work(folder):
    """Wait for a checkpoint, and return the processes that train."""
    while not list(folder.glob("*/checkpoint-*")):
        time.sleep(0.05)
    return [one for one in psutil.Process().children(True) if "TrainWorker" in one.name()]


@pytest.mark.slow
def test_two_workers_fine_tune_as_one_process(ray_of_two, learned, tmp_path):
    assert_equal(learned(tmp_path / "checkpoints", workers=2), learned())


@pytest.mark.slow
def test_worker_that_is_killed_ends_the_training_which_then_goes_on(ray_of_two, learned, tmp_path):
    options = {"epochs": 40, "checkpoint_minutes": 1e-9}
    folder = tmp_path / "checkpoints"
    killed = []

    def kill():
        found = workers_at_work(folder)
        killed.extend(found)
        found[-1].kill()

    Thread(target=kill, daemon=True).start()
    with pytest.raises(InputError, match=r"worker \d of the training has ended "):
        learned(folder, workers=2, **options)
    psutil.wait_procs(killed, timeout=10)
    assert len(killed) == 2
    assert not any(one.is_running() for one in killed)
    (latest,) = folder.glob("*/checkpoint-*")
    assert_equal(learned(folder, **options), learned(**options))
    assert int(latest.name.removeprefix("checkpoint-")) < 80


@pytest.mark.slow
def test_an_interrupt_ends_the_workers(ray_of_two, learned, tmp_path):
    ended = []

    def interrupt():
        ended.extend(workers_at_work(tmp_path))
        os.kill(os.getpid(), signal.SIGINT)

    Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        learned(tmp_path, workers=2, epochs=400, checkpoint_minutes=1e-9)
    psutil.wait_procs(ended, timeout=10)
    assert len(ended) == 2
    assert not any(one.is_running() for one in ended)
