"""Others at work beside a run: readers of its artefacts, and a run that shares its cache."""

import os
from pathlib import Path

import pandas as pd
import pytest

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.training import reference_scores

ONE_METHOD = {"experiment": {"methods": ["ga_kl"]}}


@pytest.fixture
def parameters(make_corpus):
    return ONE_METHOD | {"corpus": make_corpus().as_posix()}


@pytest.fixture
def read_at_every_moment(open_session, parameters, tmp_path, monkeypatch):
    """Before and after a file or folder gets its name, a reader loads what it belongs to."""
    data = tmp_path / "data"
    with open_session(data, parameters) as session:
        context = session.load_context()
        catalog, names = context.catalog, _artefacts(context)
    read = []

    def reads(path):
        if not Path(path).is_relative_to(data):
            return
        for name in names:
            dataset = catalog.get(name)
            if not Path(path).is_relative_to(dataset._filepath):
                continue
            dataset.release()  # forgets which version was the last
            if dataset.exists():
                with monkeypatch.context() as elsewhere:  # a reader has no run's model in memory
                    elsewhere.setattr(CausalLMDataset, "_latest", None)
                    dataset.load()
                read.append(name)

    def watched(rename):
        def renamed(source, target, *args, **options):
            reads(target)
            rename(source, target, *args, **options)
            reads(target)

        return renamed

    monkeypatch.setattr(os, "rename", watched(os.rename))
    monkeypatch.setattr(os, "replace", watched(os.replace))
    return read


def _artefacts(context):
    from kedro.framework.project import pipelines

    names = sorted(pipelines["fictitious"].all_outputs())
    return [name for name in names if hasattr(context.catalog.get(name), "_filepath")]


@pytest.mark.slow
def test_a_reader_finds_whole_results_at_every_moment(
    kedro_run, read_at_every_moment, parameters, tmp_path
):
    """A notebook or kedro-viz, while a run makes its results, and while one makes them again."""
    for _ in ("made", "replaced"):
        kedro_run(tmp_path / "data", "fictitious", parameters=parameters)
    read = set(read_at_every_moment)
    assert {"questions", "plan_task_01", "target_model", "fictitious.summary_table"} <= read
    assert {f"fictitious.ga_kl.task_01.{name}" for name in ("model", "scores", "metrics")} <= read


@pytest.mark.slow
def test_two_runs_on_two_folders_share_the_reference_cache(
    kedro_run, load_result, run_without_network, parameters, root, tmp_path, monkeypatch
):
    """The second comes while the first is writing into the cache, and ends before it goes on."""
    first, second = tmp_path / "data", tmp_path / "other"
    cache = Path("05_model_input", "reference_cache")
    (first / cache).mkdir(parents=True)
    (second / cache).parent.mkdir(parents=True)
    (second / cache).symlink_to(first / cache)
    partial_of = reference_scores.partial_of
    printed = []

    def interrupted(path):
        partial = partial_of(path)
        partial.write_bytes(b"half")
        if not printed:
            options = f"data={second},corpus={parameters['corpus']},experiment.methods=ga_kl"
            done = run_without_network(
                root, "--env", "test", "--pipelines", "fictitious", "--params", options
            )
            printed.append(done.stdout + done.stderr)
            assert done.returncode == 0, done.stderr
        assert partial.exists()
        return partial

    monkeypatch.setattr(reference_scores, "partial_of", interrupted)
    kedro_run(first, "fictitious", parameters=parameters)
    assert printed
    tables = [
        load_result(folder, "fictitious.summary_table", parameters) for folder in (first, second)
    ]
    pd.testing.assert_frame_equal(*tables)
    files = [path.name for path in (first / cache).iterdir()]
    assert files
    assert all(name.endswith(".safetensors") for name in files)
