"""A run killed anywhere goes on to the numbers of a run that was not.

Each case is a process of its own that kills itself (SIGKILL) at the n-th call of a function; then
``--only-missing-outputs`` takes the run up again.
"""

import logging
import multiprocessing
import signal

import pandas as pd
import pytest

PARAMETERS = {
    "experiment": {"methods": ["ga_kl"], "n_tasks": 2},
    "finetuning": {"epochs": 2, "checkpoint_minutes": None},
    "unlearning": {"epochs": 3, "checkpoint_minutes": None},
}
RESULTS = ("summary", "metrics", "answers", "training_logs")
FINETUNING_STEPS = 14  # and 6 of unlearning

PROCESSES = multiprocessing.get_context("forkserver")  # one server imports for all of them
IMPORTED = [
    "closer_look.pipeline_registry",
    "closer_look.training.trainer",
    "closer_look.reporting.figures",
]
PROCESSES.set_forkserver_preload([*IMPORTED, "kedro_datasets.plotly", "sentence_transformers"])

KILLED = """
import importlib, os, signal
from closer_look.project.session import Session
from kedro.framework.startup import bootstrap_project

root, data, parameters, module, name, calls, half = arguments
bootstrap_project(root)
owner = importlib.import_module(module)
for part in name.split(".")[:-1]:
    owner = getattr(owner, part)
name = name.split(".")[-1]
original = getattr(owner, name)

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def counted(*args, **kwargs):
    global calls
    if half:  # writing a file of that name, the first half of it is on the disk
        if half in args[0].path:
            original(args[0], args[1][: len(args[1]) // 2])
            args[0].flush()
            die()
    else:
        calls -= 1
        if calls == 0:
            die()
    return original(*args, **kwargs)

setattr(owner, name, counted)
parameters = {"data": data.as_posix()} | parameters
with Session.create(root, env="test", runtime_params=parameters) as session:
    session.run(pipeline_names=["continual"])
"""

CASES = {
    "fine-tuning": ("closer_look.training.trainer", "_Trainer.compute_loss", 3, ""),
    "reference scoring": ("closer_look.training.reference_scores", "cache_key", 2, ""),
    "unlearning": (
        "closer_look.training.trainer",
        "_Trainer.compute_loss",
        FINETUNING_STEPS + 2,
        "",
    ),
    "the second task": ("closer_look.training.unlearning", "unlearn", 2, ""),
    "generation": ("closer_look.inference.decoding", "decode_together", 4, ""),
    "metrics": ("closer_look.metrics", "aggregate", 2, ""),
    "a model being written": (
        *("transformers.tokenization_utils_base", "PreTrainedTokenizerBase.save_pretrained"),
        *(3, ""),
    ),
    "a table being written": ("fsspec.implementations.local", "LocalFileOpener.write", 0, "scores"),
    "the report being written": (
        *("fsspec.implementations.local", "LocalFileOpener.write"),
        *(0, "report.html"),
    ),
}


@pytest.fixture(scope="module")
def results(open_session):
    """Load the results of a run."""

    def results(data):
        with open_session(data, PARAMETERS) as session:
            catalog = session.load_context().catalog
        return {name: catalog.load(f"continual.{name}") for name in RESULTS}

    return results


@pytest.fixture(scope="module")
def undisturbed(kedro_run, results, once):
    """Results of a run without checkpoints."""
    return results(
        once("undisturbed", lambda data: kedro_run(data, "continual", parameters=PARAMETERS))
    )


def run_until_killed(*arguments):
    """In a process of its own; its standard error is this one's."""
    process = PROCESSES.Process(target=exec, args=(KILLED, {"arguments": arguments}))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def some_slow(cases, *in_the_gate):
    """Cases of one mechanism each are for the gate; the others die elsewhere of the same."""
    return [
        case if case in in_the_gate else pytest.param(case, marks=pytest.mark.slow)
        for case in cases
    ]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_killed_during(case, root, kedro_run, results, undisturbed, tmp_path):
    run_until_killed(root, tmp_path, PARAMETERS, *CASES[case])
    finished = kedro_run(tmp_path, "continual", parameters=PARAMETERS, only_missing_outputs=True)
    assert "collect_questions" not in finished  # it goes on
    for name, table in results(tmp_path).items():
        pd.testing.assert_frame_equal(table, undisturbed[name])
    report = next(tmp_path.glob("08_reporting/test/continual/report.html/*/report.html"))
    assert report.read_text("utf-8").rstrip().endswith("</html>")


CHECKPOINTS = {"checkpoint_minutes": 1e-9}  # one after each step but the last

INSIDE = {
    "fine-tuning, in its second epoch": (
        *("closer_look.training.trainer", "_Trainer.compute_loss", 11),
        "Fine-tuning: resumed at step 10 of 14",
    ),
    "unlearning": (
        *("closer_look.training.trainer", "_Trainer.compute_loss", FINETUNING_STEPS + 5),
        "Unlearning with GA+KL: resumed at step 4 of 6",
    ),
    "a checkpoint being written": (
        *("transformers.trainer", "Trainer._save_rng_state", 6),
        "Fine-tuning: resumed at step 5 of 14",
    ),
    "a checkpoint getting its name": (
        *("closer_look.training.checkpoints", "save_file", 6),
        "Fine-tuning: resumed at step 5 of 14",
    ),
    "its model being saved": (
        *("closer_look.datasets.causal_lm_dataset", "CausalLMDataset._write", 3),
        "Unlearning with GA+KL: resumed at step 5 of 6",
    ),
    "its log being saved": (
        *("closer_look.datasets.table_dataset", "TableDataset.save", 7),
        "Fine-tuning: resumed at step 13 of 14",
    ),
    "the checkpoint before being removed": (
        *("shutil", "rmtree", 4 + 9),  # four before the training
        "Fine-tuning: resumed at step 10 of 14",
    ),
}


@pytest.mark.parametrize("case", some_slow(INSIDE, "unlearning"))
def test_killed_inside_a_training(case, root, kedro_run, results, undisturbed, tmp_path, caplog):
    *where, resumed = INSIDE[case]
    checkpoints = {name: PARAMETERS[name] | CHECKPOINTS for name in ("finetuning", "unlearning")}
    parameters = PARAMETERS | checkpoints
    run_until_killed(root, tmp_path, parameters, *where, "")
    with caplog.at_level(logging.INFO, "closer_look"):
        kedro_run(tmp_path, "continual", parameters=parameters, only_missing_outputs=True)
    assert [line for line in caplog.messages if "resumed at" in line] == [resumed]
    for name, table in results(tmp_path).items():
        pd.testing.assert_frame_equal(table, undisturbed[name])
    assert list(tmp_path.rglob("*checkpoint*")) == []
