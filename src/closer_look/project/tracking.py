"""Experiment tracking: what a run has made goes to MLflow when the run ends.

An MLflow run stands for a Kedro run, with its parameters, figures and report. Under it, one for
each method (and seed) holds the numbers after each task, with the task as the step. Nothing is
logged before the end: a run that is killed leaves nothing half open, and is logged by the run that
resumes it.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import time
from typing import TYPE_CHECKING, Any

import pandas as pd
from kedro.framework.hooks import hook_impl

from closer_look.datasets.report_dataset import ReportDataset
from closer_look.errors import InputError, first_line, quote
from closer_look.parameters.experiment import task_name
from closer_look.parameters.groups import as_model
from closer_look.reporting.results import REFERENCE_LABELS, SUMMARY_COLUMNS, summary_table
from closer_look.reporting.run_record import git_commit, recorded_parameters

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node
    from mlflow import MlflowClient

    from closer_look.parameters.tracking import TrackingParameters

TENSORBOARD = "tensorboard"  # entry of the catalog
SQLITE = "sqlite:///"
TABLE = re.compile(r"(\w+)\.(?:stress_)?summary_table")
MOST_PARAMETERS, MOST_METRICS = 100, 1000  # that MLflow takes in one request

log = logging.getLogger(__name__)


class TrackingHooks:
    """Log a run to MLflow, if ``tracking.mlflow`` asks for it."""

    @hook_impl
    def before_pipeline_run(self, catalog: CatalogProtocol) -> None:
        """Look whether MLflow is there, before any work.

        Raises:
            InputError: MLflow is not installed, or its store cannot be used.
        """
        tracking = _tracking(catalog)
        if tracking.mlflow is None:
            return
        try:
            _open(tracking)
        except ImportError:
            raise InputError(
                "parameter tracking.mlflow: MLflow is not installed: "
                "pip install 'closer-look[mlflow]'"
            ) from None
        except Exception as error:  # of MLflow, of its database, of the network
            raise InputError(
                f"parameter tracking.mlflow: {quote(tracking.mlflow)} cannot be used "
                f"({first_line(error)})"
            ) from None
        # For unlearning.report_to=mlflow, which transformers serves.
        os.environ["MLFLOW_TRACKING_URI"] = tracking.mlflow
        os.environ["MLFLOW_EXPERIMENT_NAME"] = tracking.experiment

    @hook_impl
    def before_node_run(self, node: Node, catalog: CatalogProtocol) -> None:
        """Give TensorBoard a folder of its own for what the node trains."""
        if TENSORBOARD in catalog:
            folder = catalog[TENSORBOARD].load()
            folder = str(folder.absolute()) if isinstance(folder, Path) else folder
            os.environ["TENSORBOARD_LOGGING_DIR"] = f"{folder}/{node.name}"

    @hook_impl
    def after_pipeline_run(self, pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Log what the run has made."""
        _log(pipeline, catalog)

    @hook_impl
    def on_pipeline_error(
        self, error: Exception, pipeline: Pipeline, catalog: CatalogProtocol
    ) -> None:
        """Log that the run has failed, and why."""
        _log(pipeline, catalog, error)


def _tracking(catalog: CatalogProtocol) -> TrackingParameters:
    parameters = catalog["parameters"].load() if "parameters" in catalog else {}
    return as_model("tracking", parameters.get("tracking", {}))


def _open(tracking: TrackingParameters) -> tuple[MlflowClient, str]:
    """Return MLflow's client, and the identifier of the experiment, which is made if need be."""
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # else it tries for minutes
    from mlflow import MlflowClient

    client = MlflowClient(tracking.mlflow)
    experiment = client.get_experiment_by_name(tracking.experiment)
    if experiment is not None:
        return client, experiment.experiment_id
    database = tracking.mlflow.removeprefix(SQLITE)
    # Beside the database, not in the folder where the run happens to start.
    artefacts = None if database == tracking.mlflow else Path(database).absolute().parent / "mlruns"
    return client, client.create_experiment(tracking.experiment, artefacts and str(artefacts))


def _log(pipeline: Pipeline, catalog: CatalogProtocol, error: Exception | None = None) -> None:
    """Log the scenarios whose tables are among a pipeline's outputs.

    The results are in files already: if MLflow fails now, the run does not.
    """
    tracking = _tracking(catalog)
    tables = [name for name in sorted(pipeline.all_outputs()) if TABLE.fullmatch(name)]
    if tracking.mlflow is None:
        return
    try:
        for name in tables:
            _log_scenario(tracking, name, pipeline, catalog, error)
    except Exception as fault:
        log.warning(
            "MLflow has not taken the run (%s); the same command with --only-missing-outputs logs "
            "it again",
            first_line(fault),
        )


def _log_scenario(
    tracking: TrackingParameters,
    table: str,
    pipeline: Pipeline,
    catalog: CatalogProtocol,
    error: Exception | None,
) -> None:
    client, experiment = _open(tracking)
    scenario = TABLE.fullmatch(table)[1]
    if error is None:  # those of its record: a benchmark has methods and settings of its own
        record = table.replace("summary_table", "run_record")
        parameters = dict(catalog[record].load()["parameters"])
    else:
        parameters = recorded_parameters(catalog["parameters"].load())
    methods = parameters.pop("methods")
    run = Path(str(catalog["provenance"].folder)).name
    tags = {"mlflow.runName": f"{run} {scenario}", "run": run, "scenario": scenario}
    if commit := git_commit():
        tags["mlflow.source.git.commit"] = commit
    if error is not None:
        tags["error"] = first_line(error)
    whole = client.create_run(experiment, tags=tags).info.run_id
    status = "FAILED"
    try:
        _log_parameters(client, whole, parameters)
        if error is None:
            models = parameters.get("models", {})
            for rows, metrics in _models(catalog, scenario):
                _log_model(client, experiment, whole, rows, metrics, methods | models)
            _log_artefacts(client, whole, scenario, pipeline, catalog)
            text = catalog[table].load().to_csv(index=False)
            client.log_text(whole, text, f"{table.partition('.')[2]}.csv")
            status = "FINISHED"
    finally:
        client.set_terminated(whole, status)


def _models(catalog: CatalogProtocol, scenario: str) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Walk through the summaries and the metrics of each method, and of each of its seeds."""
    summary, metrics = (catalog[f"{scenario}.{name}"].load() for name in ("summary", "metrics"))
    keys = ["method", "seed"] if "seed" in summary else ["method"]
    of_metrics = dict(list(metrics.groupby(keys, dropna=False, sort=False)))
    for key, rows in summary.groupby(keys, dropna=False, sort=False):
        yield rows, of_metrics.get(key, metrics.iloc[:0])


def _log_model(
    client: MlflowClient,
    experiment: str,
    whole: str,
    summary: pd.DataFrame,
    metrics: pd.DataFrame,
    settings: Mapping[str, Any],
) -> None:
    """Log the numbers of a method after each task as a run under that of the whole."""
    from mlflow.entities import Metric

    method = summary["method"].iloc[0]
    own = settings.get(method, {})
    label = {**REFERENCE_LABELS, method: own.get("label", method)}[method]
    tags = {"mlflow.parentRunId": whole, "mlflow.runName": label, "method": method}
    if "seed" in summary and summary["seed"].notna().all():
        seed = str(int(summary["seed"].iloc[0]))
        tags |= {"mlflow.runName": f"{label}, seed {seed}", "seed": seed}
    run = client.create_run(experiment, tags=tags).info.run_id
    try:
        _log_parameters(client, run, own)
        now = int(1000 * time())
        values = [
            Metric(name, float(value), now, int(step))
            for name, value, step in _numbers(method, summary, metrics)
            if pd.notna(value)
        ]
        for start in range(0, len(values), MOST_METRICS):
            client.log_batch(run, metrics=values[start : start + MOST_METRICS])
    finally:
        client.set_terminated(run)


def _numbers(
    method: str, summary: pd.DataFrame, metrics: pd.DataFrame
) -> Iterator[tuple[str, float, int]]:
    """Walk through a model's numbers: name, value, number of tasks unlearned."""
    for _, row in summary_table(summary, {method: method}).iterrows():
        for name in SUMMARY_COLUMNS:
            yield name, row[name], row["after_task"]
    for row in summary[summary["task_id"] > 0].itertuples():
        yield f"{row.metric}/{task_name(row.task_id)}", row.value, row.after_task
    for row in metrics.itertuples():
        rows = f"{row.split}_{task_name(row.task_id)}" if row.task_id else row.split
        yield f"{rows}/{row.metric}", row.value, row.after_task


def _log_parameters(client: MlflowClient, run: str, parameters: Mapping[str, Any]) -> None:
    from mlflow.entities import Param

    flat = [Param(name, str(value)) for name, value in _flat(parameters)]
    for start in range(0, len(flat), MOST_PARAMETERS):
        client.log_batch(run, params=flat[start : start + MOST_PARAMETERS])


def _flat(parameters: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in parameters.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _log_artefacts(
    client: MlflowClient, run: str, scenario: str, pipeline: Pipeline, catalog: CatalogProtocol
) -> None:
    """Log the figures and the report of a scenario."""
    from kedro_datasets.plotly import JSONDataset

    for name in sorted(pipeline.all_outputs()):
        own = name.removeprefix(f"{scenario}.")
        if own == name or "." in own:
            continue
        dataset = catalog[name]
        if isinstance(dataset, JSONDataset):
            client.log_figure(run, dataset.load(), f"figures/{own}.html")
        elif isinstance(dataset, ReportDataset):
            client.log_text(run, dataset.load(), f"{own}.html")
