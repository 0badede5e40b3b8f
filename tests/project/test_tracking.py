"""Runs are logged to MLflow when they end, and a fault of MLflow harms no run."""

import logging
import os
import sys

import pandas as pd
import pytest
from kedro.framework.project import pipelines
from kedro.io import DataCatalog, MemoryDataset

from closer_look.datasets.folder_dataset import FolderDataset
from closer_look.errors import InputError
from closer_look.parameters.groups import as_model
from closer_look.project import tracking
from closer_look.project.tracking import TrackingHooks

PIPELINE = type("Pipeline", (), {"all_outputs": lambda self: {"s.summary_table"}})()


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Variables that the hooks set are gone after a test."""
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "TENSORBOARD_LOGGING_DIR"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.fixture
def store(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed")
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    return uri, mlflow.MlflowClient(uri)


@pytest.fixture
def runs(store):
    """All runs of the store: name -> run."""

    def runs():
        _, client = store
        experiments = [one.experiment_id for one in client.search_experiments()]
        return {run.info.run_name: run for run in client.search_runs(experiments)}

    return runs


def test_numbers_after_each_task_parameters_figures_and_report_are_logged(
    whole_run, open_session, store, runs, tmp_path
):
    uri, client = store
    # The methods are those of the run's record, as in a benchmark, which has its own.
    others = {"tracking": {"mlflow": uri}, "experiment": {"methods": ["ga_gd"]}}
    with open_session(whole_run.data, others) as session:
        catalog = session.load_context().catalog
        hooks, pipeline = TrackingHooks(), pipelines["continual"]
        hooks.before_pipeline_run(catalog=catalog)
        assert runs() == {}  # a run that is refused now leaves nothing
        hooks.after_pipeline_run(pipeline=pipeline, catalog=catalog)
        table = catalog.load("continual.summary_table")
        logged = runs()
        assert set(logged) == {"test continual", "before", "GA+GD", "ME+GD", "IDK+AP"}
        assert {run.info.status for run in logged.values()} == {"FINISHED"}

        whole, one = logged["test continual"], logged["ME+GD"]
        assert whole.data.params["unlearning.epochs"]
        assert "tracking.mlflow" not in whole.data.params
        assert one.data.params["forget.loss"] == "maximum_entropy"
        assert one.data.tags["mlflow.parentRunId"] == whole.info.run_id
        history = client.get_metric_history(one.info.run_id, "model_utility")
        expected = table[table["method"] == "ME+GD"]
        assert {m.step: m.value for m in history} == pytest.approx(
            dict(zip(expected["after_task"], expected["model_utility"], strict=True))
        )
        first = client.get_metric_history(one.info.run_id, "forget_efficacy/task_01")
        assert sorted(m.step for m in first) == [1, 2]
        assert "retain/rouge" in one.data.metrics

        there = {file.path for file in client.list_artifacts(whole.info.run_id)}
        assert there == {"figures", "report.html", "summary_table.csv"}
        assert whole.info.artifact_uri.startswith(str(tmp_path))
        figures = client.list_artifacts(whole.info.run_id, "figures")
        assert "figures/trade_off.html" in {file.path for file in figures}

        hooks.on_pipeline_error(error=InputError("no"), pipeline=pipeline, catalog=catalog)
        (failed,) = client.search_runs(
            [whole.info.experiment_id], filter_string="attributes.status = 'FAILED'"
        )
        assert failed.data.tags["error"] == "no"
        assert failed.data.metrics == {}


class Client:
    """Stands in for MLflow's: keeps what is logged."""

    def __init__(self):
        self.tags, self.metrics = [], []

    def create_run(self, experiment, tags):
        self.tags.append(tags)
        return type("Run", (), {"info": type("Info", (), {"run_id": len(self.tags)})})

    def log_batch(self, run, metrics=(), params=()):
        self.metrics += metrics

    def set_terminated(self, run):
        pass


def test_each_seed_of_a_method_is_a_run_of_its_own():
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    line = {"method": "me_gd", "after_task": 1, "task_id": 0, "ci_low": 0, "ci_high": 1}
    line |= {"metric": "model_utility", "terms": "", "reason": ""}
    before = line | {"method": "before", "after_task": 0, "value": 0.9}
    rows = [before, line | {"seed": 1, "value": 0.5}, line | {"seed": 2, "value": 0.6}]
    summary = pd.DataFrame(rows)
    metrics = pd.DataFrame({"method": [], "seed": [], "split": [], "task_id": [], "metric": []})
    catalog = {"s.summary": MemoryDataset(summary), "s.metrics": MemoryDataset(metrics)}
    client = Client()
    for of_one, values in tracking._models(catalog, "s"):
        tracking._log_model(client, "0", "whole", of_one, values, {"me_gd": {"label": "ME+GD"}})
    names = [tags["mlflow.runName"] for tags in client.tags]
    assert names == ["before", "ME+GD, seed 1", "ME+GD, seed 2"]
    assert [(m.key, m.value) for m in client.metrics] == [
        ("model_utility", value) for value in (0.9, 0.5, 0.6)
    ]


def catalog_with(**settings):
    return DataCatalog({"parameters": MemoryDataset({"tracking": settings})})


def test_a_store_that_cannot_be_used_is_refused_before_any_work():
    pytest.importorskip("mlflow", reason="MLflow is not installed")
    catalog = catalog_with(mlflow="gopher://x")
    with pytest.raises(InputError, match=r"parameter tracking\.mlflow: 'gopher://x' cannot be us"):
        TrackingHooks().before_pipeline_run(catalog=catalog)


def test_mlflow_that_is_not_installed_is_refused_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(InputError, match=r"not installed: pip install 'closer-look\[mlflow\]'"):
        TrackingHooks().before_pipeline_run(catalog=catalog_with(mlflow="sqlite:///x.db"))


def test_mlflow_that_fails_in_the_end_does_not_fail_the_run(monkeypatch, caplog):
    def fail(tracking):
        raise RuntimeError("gone\nlong story")

    monkeypatch.setattr(tracking, "_open", fail)
    with caplog.at_level(logging.WARNING):
        TrackingHooks().after_pipeline_run(pipeline=PIPELINE, catalog=catalog_with(mlflow="x"))
    assert "MLflow has not taken the run (gone)" in caplog.text
    assert "--only-missing-outputs" in caplog.text


def test_nothing_is_tracked_unless_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    TrackingHooks().before_pipeline_run(catalog=DataCatalog({}))
    TrackingHooks().after_pipeline_run(pipeline=PIPELINE, catalog=catalog_with())


def test_a_misspelt_setting_is_named():
    with pytest.raises(InputError, match=r"parameter tracking\.mlfow: Extra inputs"):
        as_model("tracking", {"mlfow": "x"})


def test_tensorboard_has_a_folder_for_each_node(tmp_path):
    catalog = DataCatalog({"tensorboard": FolderDataset(filepath=str(tmp_path))})
    node = type("Node", (), {"name": "continual.me_gd.task_01.unlearn"})()
    TrackingHooks().before_node_run(node=node, catalog=catalog)
    assert os.environ["TENSORBOARD_LOGGING_DIR"] == f"{tmp_path}/continual.me_gd.task_01.unlearn"
