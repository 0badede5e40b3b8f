"""With what a run was made, in a form that JSON holds."""

import json
import subprocess
from importlib import metadata

import pytest

from closer_look.parameters.benchmark import BenchmarkParameters
from closer_look.parameters.evaluation import MetricsParameters
from closer_look.parameters.methods import MethodParameters
from closer_look.reporting.run_record import (
    git_commit,
    of_benchmark,
    recorded_parameters,
    run_record,
)

PARAMETERS = {
    "experiment": {"methods": ["me_gd"]},
    "metrics": MetricsParameters(seed=7),
    "methods": {"me_gd": {"label": "ME+GD"}, "ga_gd": {"label": "GA+GD"}},
}


def test_parameters_are_those_used_as_plain_values():
    record = json.loads(json.dumps(run_record(PARAMETERS)))
    assert record["parameters"]["methods"] == {"me_gd": {"label": "ME+GD"}}
    assert record["parameters"]["metrics"]["seed"] == 7


def test_all_methods_are_recorded_where_all_are_used():
    parameters = {"experiment": {"methods": ["all"]}, "methods": {"b": {}, "a": {}}}
    assert [*recorded_parameters(parameters)["methods"]] == ["a", "b"]


def test_of_a_benchmark_methods_are_as_tuned_under_their_own_labels():
    tuned = MethodParameters(label="ME", forget={"loss": "maximum_entropy"}, learning_rate=0.5)
    found = of_benchmark(PARAMETERS, BenchmarkParameters(seeds=[1, 2]), {"me_gd": tuned})
    assert found["methods"]["me_gd"]["learning_rate"] == 0.5
    assert found["methods"]["me_gd"]["label"] == "ME+GD"


def test_versions_are_those_installed():
    assert run_record(PARAMETERS)["libraries"]["torch"] == metadata.version("torch")


@pytest.mark.parametrize(
    "name", ["closer-look", "numpy", "tokenizers", "accelerate", "rouge-score", "annotated-types"]
)
def test_libraries_that_change_numbers_are_recorded_imported_or_not(name):
    assert run_record(PARAMETERS)["libraries"][name] == metadata.version(name)
    assert "pytest" in run_record(PARAMETERS)["libraries"]  # imported, though not required


def test_the_commit_is_recorded_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert git_commit() is None
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"]):
        (tmp_path / "file").write_text("1")
        subprocess.run([*git, *command], check=True)  # noqa: S603
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)  # noqa: S603
    assert git_commit() == head.stdout.strip()
    (tmp_path / "file").write_text("2")
    assert git_commit() == f"{head.stdout.strip()}-dirty"


def test_a_run_keeps_its_record(whole_run, load_result):
    record = load_result(whole_run.data, "continual.run_record")
    assert list(record["parameters"]["methods"]) == ["ga_gd", "me_gd", "idk_ap"]
    assert record["parameters"]["data"] == whole_run.data.as_posix()
