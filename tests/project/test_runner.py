"""The order of a run, and models that go from node to node in memory."""

import logging
import re

import pandas as pd
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline, node

from closer_look.datasets import causal_lm_dataset
from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.errors import InputError
from closer_look.project.runner import DepthFirstRunner, depth_first

METHODS = {"experiment": {"methods": ["ga_kl", "me_gd"]}}


def nodes_of(*names):
    """Nodes by name, each ``namespace.name: inputs``; a node's output has its name."""

    def one(text):
        name, inputs = text.split(":")
        namespace, _, short = name.rpartition(".")
        function = lambda *values: values  # noqa: E731
        options = {"name": short, "namespace": namespace or None}
        return node(function, inputs.split() or None, name.replace(".", "_"), **options)

    return Pipeline([one(text) for text in names])


def names(pipeline):
    return [one.name for one in depth_first(pipeline)]


def test_a_chain_is_evaluated_task_by_task_and_finished_before_the_next():
    pipeline = nodes_of(
        *(f"{m}.t1.unlearn: model" for m in "ab"),
        *(f"{m}.t1.score: {m}_t1_unlearn" for m in "ab"),
        *(f"{m}.t2.unlearn: {m}_t1_unlearn" for m in "ab"),
        "report: a_t1_score b_t1_score a_t2_unlearn b_t2_unlearn",
    )
    assert names(pipeline) == [
        *("a.t1.unlearn", "a.t1.score", "a.t2.unlearn"),
        *("b.t1.unlearn", "b.t1.score", "b.t2.unlearn"),
        "report",
    ]


def test_what_all_share_comes_before_any_method():
    pipeline = nodes_of("rows:", "a.unlearn: rows", "plan: rows", "check: plan")
    assert names(pipeline) == ["rows", "plan", "check", "a.unlearn"]


def test_what_was_made_elsewhere_is_read_before_anything_is_trained():
    pipeline = nodes_of(
        *("rows:", "draw: rows", "finetune: draw", "select: draw", "measure: finetune select"),
        *("s.theirs.read_numbers: select", "s.mine.take_model: rows"),
        *("s.mine.score: s_mine_take_model", "s.a.unlearn: finetune"),
    )
    before = names(pipeline)[: names(pipeline).index("finetune")]
    assert {"s.theirs.read_numbers", "s.mine.take_model"} <= {*before}
    assert "s.mine.score" not in before


def test_a_run_looks_through_its_nodes_once_however_many_they_are(monkeypatch):
    looked = []
    look = Pipeline._remove_intermediates
    monkeypatch.setattr(
        Pipeline, "_remove_intermediates", lambda *given: looked.append(1) or look(*given)
    )

    def times(n_nodes):
        chain = nodes_of("n0: rows", *(f"n{i}: n{i - 1}" for i in range(1, n_nodes)))
        catalog = DataCatalog({"rows": MemoryDataset([1])})
        looked.clear()
        DepthFirstRunner().run(chain, catalog, _create_hook_manager())
        return len(looked)

    assert times(30) == times(3)


@pytest.fixture
def count_reads(monkeypatch):
    """Folders of the models that are read from disk, one after another."""
    read = []
    load = causal_lm_dataset.load_language_model

    def counted(name, *args, **kwargs):
        read.append("/".join(name.split("/")[-2:]))
        return load(name, *args, **kwargs)

    monkeypatch.setattr(causal_lm_dataset, "load_language_model", counted)
    return read


@pytest.mark.slow
def test_a_run_reads_no_model_that_it_has_just_made(kedro_run, tmp_path, count_reads):
    kedro_run(tmp_path, "continual", parameters=METHODS)
    assert count_reads == ["test/target"]  # for the second method, whose first task starts there
    assert CausalLMDataset._latest is None


@pytest.mark.slow
def test_models_from_memory_give_the_numbers_of_those_from_disk(
    kedro_run, whole_run, load_result, tmp_path, count_reads, monkeypatch
):
    monkeypatch.setattr(CausalLMDataset, "_hand_on", lambda *_: None)
    kedro_run(tmp_path, "fictitious", parameters={"experiment": {"methods": ["me_gd"]}})
    assert len(count_reads) > 8
    for result in ("metrics", "generations", "training_log"):
        cell = f"me_gd.task_01.{result}"
        from_disk = load_result(tmp_path, f"fictitious.{cell}")
        pd.testing.assert_frame_equal(from_disk, load_result(whole_run.data, f"continual.{cell}"))


@pytest.mark.slow
def test_a_run_that_was_broken_off_goes_on_from_disk(
    kedro_run, tmp_path, count_reads, monkeypatch, caplog
):
    from closer_look.evaluation import measurement

    with monkeypatch.context() as broken, pytest.raises(TypeError):
        broken.setattr(measurement, "generate", None)
        kedro_run(tmp_path, "continual", parameters=METHODS)
    (hint,) = [r.getMessage() for r in caplog.records if r.name == "closer_look.project.runner"]
    n_done, n_nodes = re.fullmatch(
        r"(\d+) of (\d+) nodes are done; to resume, add --only-missing-outputs to the command", hint
    ).groups()
    started = kedro_run(tmp_path, "continual", parameters=METHODS, only_missing_outputs=True)
    assert "finetune" not in started
    assert int(n_done) + len(started) == int(n_nodes)
    assert count_reads[0] == "test/target"


def test_what_each_run_does_is_resumed_by_the_same_command(caplog):
    served = Pipeline(nodes_of("serve: model", "certify: serve").nodes, tags="erasure")
    runner = DepthFirstRunner()
    runner._suggest_resume_scenario(served, served.nodes[:1], DataCatalog())
    assert caplog.messages == ["To go on, run the same command again"]


def test_kedros_own_runner_is_replaced_and_no_other(open_session, tmp_path, monkeypatch):
    from kedro.framework.session import KedroSession
    from kedro.runner import SequentialRunner

    class OwnRunner(SequentialRunner):
        pass

    used = []
    monkeypatch.setattr(
        KedroSession, "run", lambda _, runner, **_selection: used.append(type(runner))
    )
    for runner in (None, SequentialRunner(), OwnRunner()):
        with open_session(tmp_path) as session:
            session.run(runner=runner)
    assert used == [DepthFirstRunner, DepthFirstRunner, OwnRunner]


@pytest.mark.parametrize("name", ["ThreadRunner", "ParallelRunner"])
def test_runner_of_several_nodes_at_once_is_refused(open_session, tmp_path, name):
    import kedro.runner

    with (
        open_session(tmp_path) as session,
        pytest.raises(
            InputError,
            match=rf"^--runner={name}: a run makes one model after another; .*RayRunner$",
        ),
    ):
        session.run(runner=getattr(kedro.runner, name)())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_run_that_loads_and_saves_in_threads_gives_the_same_numbers(
    kedro_run, whole_run, load_result, tmp_path
):
    from kedro.runner import SequentialRunner

    parameters = {"experiment": {"methods": ["me_gd"]}}
    runner = SequentialRunner(is_async=True)
    kedro_run(tmp_path, "fictitious", parameters=parameters, runner=runner)
    for result in ("metrics", "generations", "training_log"):
        cell = f"me_gd.task_01.{result}"
        in_threads = load_result(tmp_path, f"fictitious.{cell}")
        pd.testing.assert_frame_equal(in_threads, load_result(whole_run.data, f"continual.{cell}"))
    assert kedro_run(tmp_path, "fictitious", parameters=parameters, only_missing_outputs=True) == []


def test_only_the_node_log_says_which_node_runs(open_session, tmp_path):
    with open_session(tmp_path):
        assert logging.getLogger("closer_look.project.node_log").isEnabledFor(logging.INFO)
        assert not DepthFirstRunner()._logger.isEnabledFor(logging.INFO)
        assert DepthFirstRunner()._logger.isEnabledFor(logging.WARNING)
