"""Nodes as tasks of a Ray cluster: the same results, whatever happens to the workers."""

import logging
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import psutil
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.io.core import Version
from kedro.pipeline import Node, Pipeline
from kedro_datasets.json import JSONDataset

from closer_look.errors import InputError
from closer_look.parameters.base import spreads
from closer_look.parameters.groups import as_model
from closer_look.project import ray_cluster
from closer_look.project.hooks import ProvenanceHooks
from closer_look.project.ray_cluster import check_machines, connected
from closer_look.project.ray_runner import RayRunner
from closer_look.system.run_lock import lock_run

RUNNER = "closer_look.project.ray_runner"
ONE_METHOD = {"experiment": {"methods": ["me_gd"]}}
WAIT = 120  # seconds for what takes one or two

log = logging.getLogger("closer_look.of_a_node")


@pytest.fixture(scope="module", autouse=True)
def cluster(asked_hosts, open_session, tmp_path_factory):
    """Two workers, which find the functions of this module though they cannot import it."""
    import ray

    with connected(as_model("engine", {"workers": 2})):
        asked_hosts.clear()  # Ray has looked for this machine's address
        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield ray


class DyingDataset(JSONDataset):
    """A dataset in whose first saving the process dies."""

    def save(self, data):
        died = Path(f"{self._filepath}.died")
        if not died.exists():
            died.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().save(data)


@pytest.fixture
def run(tmp_path):
    """Run nodes that take a folder and make JSON files in it; return what is in them."""

    def run(*nodes, dies_at=(), hooks=None, **engine):
        pipeline = Pipeline(nodes)
        version = Version(None, "2026-01-01T00.00.00.000Z")
        datasets = {
            name: (DyingDataset if name in dies_at else JSONDataset)(
                filepath=f"{tmp_path}/{name}.json", version=version
            )
            for name in pipeline.all_outputs()
        }
        parameters = {
            "params:engine": engine,
            "params:folder": tmp_path,
            "params:training": SimpleNamespace(workers=2),
        }
        memory = {name: MemoryDataset(value) for name, value in parameters.items()}
        catalog = DataCatalog(datasets | memory)
        hook_manager = _create_hook_manager()
        hook_manager.register(hooks or ProvenanceHooks())
        RayRunner().run(pipeline, catalog, hook_manager)
        return {name: catalog.load(name) for name in datasets}

    return run


def wait_for(condition):
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def one(folder):
    return 1


def two(folder):
    return 1, 2


def add(*numbers):
    return sum(numbers)


def warn(folder):
    log.warning("There are %d rows", 3)
    return 1


def die(folder):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_journal(folder):
    (journal,) = [p for p in psutil.Process().parent().children() if "Journal" in p.cmdline()[0]]
    journal.kill()
    return 1


def divide(folder):
    return 1 / 0


def fail(folder, number):
    wait_for((folder / "at_work").exists)
    raise InputError("rows.csv: there is no row")


def sleep(folder):
    (folder / "at_work").write_text(str(os.getpid()))
    try:
        wait_for(lambda: False)
    finally:
        (folder / "ended").touch()


def meet(folder, own, other):
    """End when another node is at work, too."""
    (folder / own).touch()
    wait_for((folder / other).exists)
    return 1


def meet_other(folder):
    return meet(folder, "here", "there")


def meet_one(folder):
    return meet(folder, "there", "here")


@spreads("training")
def be_alone(folder, training):
    """Fail if another node is at work; return the GPUs in sight."""
    (folder / "at_work").mkdir()
    time.sleep(1)
    (folder / "at_work").rmdir()
    return see(folder, training)


@spreads("training")
def be_alone_too(folder, training):
    return be_alone(folder, training)


@spreads("training", computes=True)
def see(folder, training):
    return os.environ.get("CUDA_VISIBLE_DEVICES", "all")


def test_nodes_run_as_soon_as_their_inputs_are_there(run):
    made = run(
        Node(meet_one, "params:folder", "x"),
        Node(meet_other, "params:folder", "y"),
        Node(add, ["x", "y"], "z"),
    )
    assert made == {"x": 1, "y": 1, "z": 2}


def test_nodes_with_workers_of_their_own_run_one_at_a_time_and_see_no_gpu(run):
    """They ask for nothing, so Ray would begin them all; the GPUs are those of their workers."""
    inputs = ["params:folder", "params:training"]
    made = run(Node(be_alone, inputs, "x"), Node(be_alone_too, inputs, "y"), Node(see, inputs, "z"))
    assert made == {"x": "", "y": "", "z": "all"}


def test_log_lines_of_workers_are_logged_here(run, caplog):
    with caplog.at_level(logging.INFO, logger="closer_look"):
        run(Node(warn, "params:folder", "x", name="first"), Node(add, "x", "y", name="second"))
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["[1/2] first", "There are 3 rows", "[2/2] second"]


class TestDeath:
    def test_what_was_half_made_is_made_again(self, run, caplog):
        assert run(Node(two, "params:folder", ["x", "y"], name="make"), dies_at={"y"}) == {
            "x": 1,
            "y": 2,
        }
        assert "The worker of make has died (WorkerCrashedError): the node is begun" in caplog.text

    def test_a_node_that_dies_in_each_worker_ends_the_run(self, run):
        with pytest.raises(
            InputError, match=r"^make: each worker has died that began it \(1; the "
        ):
            run(Node(die, "params:folder", "x", name="make"), retries=0)

    def test_without_who_writes_the_lines_the_run_ends(self, run):
        expected = r"^the process that writes the log of the run has died \(ActorDiedError: .*kept$"
        with pytest.raises(InputError, match=expected):
            run(Node(kill_journal, "params:folder", "x"))


class TestFailure:
    def test_it_ends_the_nodes_at_work(self, run, tmp_path, caplog):
        with pytest.raises(InputError, match=r"^rows\.csv: there is no row$"):
            run(
                Node(one, "params:folder", "x"),
                Node(fail, ["params:folder", "x"], "y"),
                Node(sleep, "params:folder", "z"),
            )
        assert (tmp_path / "ended").exists()

    def test_an_error_shows_where_it_happened(self, run):
        with pytest.raises(ZeroDivisionError, match=r"return 1 / 0"):
            run(Node(divide, "params:folder", "x"))

    def test_an_interrupt_ends_the_nodes_at_work(self, run, tmp_path):
        def interrupt():
            wait_for((tmp_path / "at_work").exists)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            run(Node(sleep, "params:folder", "x"))
        assert (tmp_path / "ended").exists()


def test_another_output_than_what_was_used_is_refused(run):
    hooks = ProvenanceHooks()
    hooks._consumers = {"x": {"later": "the SHA-256 of what it has used"}}
    with pytest.raises(InputError, match=r"^x is another one than that from which later has work"):
        run(Node(one, "params:folder", "x"), hooks=hooks)


def test_what_is_only_in_memory_is_named(tmp_path):
    pipeline = Pipeline([Node(one, "folder", "number"), Node(add, "number", "sum")])
    catalog = DataCatalog({"folder": MemoryDataset(tmp_path)})
    with pytest.raises(InputError, match=r"^--runner=RayRunner: number is kept in memory, where"):
        RayRunner().run(pipeline, catalog, _create_hook_manager())


def test_a_machine_without_the_data_is_named(open_session, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_cluster, "_marked", lambda folder, mark: nullcontext())
    with open_session(tmp_path) as session, pytest.raises(InputError) as fault:
        check_machines(session.load_context().catalog, {})
    assert re.match(
        rf"machine \S+ of the cluster cannot read and write {tmp_path}", str(fault.value)
    )


@pytest.fixture(scope="module")
def two_runs(kedro_run, tmp_path_factory):
    """Folders and nodes of a run by one process, and of one by two workers."""
    runs = []
    for runner in (None, RayRunner()):
        folder = tmp_path_factory.mktemp("run")
        nodes = kedro_run(folder, "fictitious", parameters=ONE_METHOD, runner=runner)
        runs.append((folder, nodes))
    return runs


class TestRun:
    """A run of ``conf/test`` with two workers."""

    def test_tables_are_those_of_one_process(self, two_runs, load_result):
        (plain, _), (shared, _) = two_runs
        for name in ("summary_table", "metrics", "answers", "training_logs", "fingerprints"):
            tables = [load_result(f, f"fictitious.{name}", ONE_METHOD) for f in (plain, shared)]
            pd.testing.assert_frame_equal(*tables, check_exact=True)

    def test_each_node_has_its_log_line_and_its_costs(self, two_runs, load_result):
        (_, in_order), (shared, nodes) = two_runs
        assert sorted(nodes) == sorted(in_order)
        costs = load_result(shared, "node_costs", ONE_METHOD)
        assert sorted(costs["node"]) == sorted(nodes)
        assert costs.set_index("node")["peak_memory"].min() > 10_000_000

    def test_one_process_takes_the_results_for_its_own(self, two_runs, kedro_run):
        again = {"parameters": ONE_METHOD, "only_missing_outputs": True}
        for runner in (None, RayRunner()):
            assert kedro_run(two_runs[1][0], "fictitious", runner=runner, **again) == []

    @pytest.mark.slow
    def test_a_killed_training_is_made_again(self, two_runs, kedro_run, load_result, caplog):
        folder = two_runs[1][0]
        before = load_result(folder, "fictitious.summary_table", ONE_METHOD)
        unlearn = "fictitious.me_gd.task_01.unlearn"

        def kill():
            wait_for(lambda: workers_at(unlearn))
            workers_at(unlearn)[0].kill()

        threading.Thread(target=kill, daemon=True).start()
        kedro_run(
            folder, "fictitious", parameters=ONE_METHOD, runner=RayRunner(), from_nodes=[unlearn]
        )
        assert f"The worker of {unlearn} has died" in caplog.text
        after = load_result(folder, "fictitious.summary_table", ONE_METHOD)
        pd.testing.assert_frame_equal(before, after, check_exact=True)

    def test_a_stage_takes_more_than_there_is(self, kedro_run, tmp_path):
        parameters = ONE_METHOD | {"engine": {"resources": {"unlearning": {"num_gpus": 1}}}}
        with pytest.raises(
            InputError, match=r"engine\.resources\.unlearning: .*unlearn takes 1 CP"
        ):
            kedro_run(tmp_path, "fictitious", parameters=parameters, runner=RayRunner())
        assert not (tmp_path / "03_primary").exists()

    def test_a_run_of_the_same_name_is_refused(self, kedro_run, tmp_path):
        lock = lock_run(tmp_path / "08_reporting" / "test")
        with pytest.raises(InputError, match="another process is working on run 'test'"):
            kedro_run(tmp_path, "forget_set", runner=RayRunner())
        lock.release()

    @pytest.mark.slow
    def test_two_runs_on_one_cluster(self, root, cluster, kedro_run, load_result, tmp_path):
        address = cluster.get_runtime_context().gcs_address
        other = subprocess.Popen(  # noqa: S603
            [
                *(sys.executable, "-m", "closer_look", "--env=test", "--pipelines=forget_set"),
                f"--runner={RUNNER}.RayRunner",
                f"--params=data={tmp_path}/other,engine.address={address}",
            ],
            cwd=root,
            stdout=subprocess.PIPE,
            text=True,
        )
        ran = kedro_run(tmp_path / "own", "forget_set", runner=RayRunner())
        printed, _ = other.communicate(timeout=WAIT)
        assert other.returncode == 0
        assert sorted(re.findall(r"\[\d/\d\] (\S+)", printed)) == sorted(ran)
        plans = [load_result(tmp_path / name, "plan_task_01") for name in ("own", "other")]
        pd.testing.assert_frame_equal(*plans)


def workers_at(node):
    """Processes of the cluster that run a node."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [""])[0] == f"ray::{node}"
    ]
