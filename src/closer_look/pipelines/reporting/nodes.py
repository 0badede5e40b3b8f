"""Nodes of the reporting stage.

Keyword arguments ``labels`` map a method to its label, a model made elsewhere to its parameters.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from closer_look.data.cells import Cell
from closer_look.parameters.attacks import StressParameters
from closer_look.parameters.base import depends_on
from closer_look.parameters.benchmark import BenchmarkParameters
from closer_look.parameters.evaluation import JudgesParameters, MetricsParameters
from closer_look.parameters.tuning import TuningParameters
from closer_look.reporting import results
from closer_look.reporting.findings import describe_failures
from closer_look.reporting.run_record import plain
from closer_look.reporting.sentences import method_labels
from closer_look.reporting.terminal import result_lines

Label = Any  # a text, or the parameters of a model made elsewhere
Figure = Any  # of plotly, whose import is slow: Kedro resolves the annotations of nodes


log = logging.getLogger(__name__)


def stack_cells(**cells: pd.DataFrame) -> pd.DataFrame:
    """Stack the tables of cells or of methods."""
    return results.stack_cells(cells)


def tabulate_summary(
    summary: pd.DataFrame, residual_knowledge: pd.DataFrame | None = None, **labels: Label
) -> pd.DataFrame:
    """Make the table of results, a row per method and task, and log it."""
    table = results.summary_table(summary, _labels(labels), residual_knowledge)
    for line in result_lines(table):
        log.info("%s", line)
    return table


def tabulate_seeds(summary: pd.DataFrame, **labels: Label) -> pd.DataFrame:
    """Make the table of results of each seed by itself, a row per method, task and seed."""
    return results.seed_table(summary, _labels(labels))


def count_unknown_tokens(evaluation: pd.DataFrame, judges: JudgesParameters) -> pd.DataFrame:
    """Count what the judges cannot read of the reference answers."""
    from closer_look.evaluation.judges import unknown_tokens

    return unknown_tokens(evaluation, judges.embedder, judges.entailment)


def compare_answers(**inputs: pd.DataFrame | Label) -> pd.DataFrame:
    """Make the table of every evaluated question with its answers before and after unlearning.

    Args:
        inputs: cell -> generations, and method -> label.
    """
    return results.answers_table(*_tables_and_labels(inputs))


def collect_fingerprints(questions: pd.DataFrame, **inputs: pd.DataFrame | Label) -> pd.DataFrame:
    """Collect hashes of the questions and of the models that answered them.

    Args:
        questions: all rows of the run.
        inputs: cell or method -> fingerprints, and method -> label.
    """
    return results.fingerprints(questions, *_tables_and_labels(inputs))


def _tables_and_labels(
    inputs: dict[str, pd.DataFrame | Label],
) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    tables = {name: value for name, value in inputs.items() if isinstance(value, pd.DataFrame)}
    return tables, _labels({name: inputs[name] for name in inputs if name not in tables})


def _labels(named: dict[str, Label]) -> dict[str, str]:
    return {
        name: value if isinstance(value, str) else plain(value).get("label", name)
        for name, value in named.items()
    }


def plot_curves(summary: pd.DataFrame, **labels: Label) -> Figure:
    """Draw MU and FE against the number of tasks, of each seed and their mean."""
    from closer_look.reporting import figures

    return figures.curves(summary, _labels(labels))


def plot_trade_off(summary: pd.DataFrame, **labels: Label) -> Figure:
    """Draw MU against FE."""
    from closer_look.reporting import figures

    return figures.trade_off(results.over_seeds(summary), _labels(labels))


def plot_forgetting_matrix(summary: pd.DataFrame, **labels: Label) -> Figure:
    """Draw the FE of every task after every task."""
    from closer_look.reporting import figures

    return figures.forgetting_matrix(results.over_seeds(summary), _labels(labels))


@depends_on(parameters=("own",))
def plot_metric_values(
    metrics: pd.DataFrame, parameters: MetricsParameters, **labels: Label
) -> Figure:
    """Draw every metric on every split, before and after the last task."""
    from closer_look.reporting import figures

    means = results.over_seeds(metrics)
    return figures.metric_values(means, _labels(labels), parameters.records)


def plot_truth_ratios(
    row_metrics: pd.DataFrame, retain_only_scores: pd.DataFrame | None = None, **labels: Label
) -> Figure:
    """Draw the distribution of truth ratios over the forget rows, with the first seed."""
    from closer_look import metrics
    from closer_look.reporting import figures

    row_metrics = results.first_seed(row_metrics)
    if retain_only_scores is not None:
        of_retain_only = metrics.truth_ratios(retain_only_scores)
        row_metrics = results.add_retain_only(row_metrics, of_retain_only)
    return figures.truth_ratios(row_metrics, _labels(labels))


def plot_training_curves(training_logs: pd.DataFrame, **labels: Label) -> Figure:
    """Draw losses, gradient norm and learning rate of every method, with the first seed."""
    from closer_look.reporting.figures_of_training import training_curves

    return training_curves(results.first_seed(training_logs), _labels(labels))


def plot_finetuning_curves(finetuning_log: pd.DataFrame) -> Figure:
    """Draw loss, gradient norm and learning rate of the target model's fine-tuning."""
    from closer_look.reporting.figures_of_training import finetuning_curves

    return finetuning_curves(finetuning_log)


def plot_attack_map(attack_results: pd.DataFrame, **labels: Label) -> Figure:
    """Draw what each attack gets back of each model."""
    from closer_look.reporting import figures

    return figures.attack_map(attack_results, _labels(labels))


def record_run(
    parameters: dict[str, Any],
    stress: StressParameters | None = None,
    benchmark: BenchmarkParameters | None = None,
    tuning: TuningParameters | None = None,
    **named: Any,
) -> dict[str, Any]:
    """Record parameters, library versions, commit and platform.

    Args:
        parameters: all parameters.
        stress: see ``named``.
        benchmark: what a benchmark has in place of the experiment's methods and seeds.
        tuning: how its methods were tuned.
        named: attack -> parameters, and namespace of a method -> what tuning has found.
    """
    from closer_look.reporting.run_record import of_benchmark, run_record

    attacks = {name: one for name, one in named.items() if "." not in name}
    further = {"stress": stress, "attacks": attacks} if attacks else {}
    if benchmark is not None:
        found = {Cell.parse(name).method: one for name, one in named.items() if "." in name}
        parameters = of_benchmark(parameters, benchmark, found)
        further |= {"benchmark": benchmark, "tuning": tuning}
    return run_record(parameters, further)


def write_report(
    summary: pd.DataFrame,
    summary_table: pd.DataFrame,
    answers: pd.DataFrame,
    row_metrics: pd.DataFrame,
    fingerprints: pd.DataFrame,
    node_costs: pd.DataFrame,
    questions: pd.DataFrame,
    run_record: dict[str, Any],
    unknown_tokens: pd.DataFrame,
    knowledge: pd.DataFrame | None = None,
    downstream: pd.DataFrame | None = None,
    membership: pd.DataFrame | None = None,
    recovered: pd.DataFrame | None = None,
    attack_results: pd.DataFrame | None = None,
    residual_knowledge: pd.DataFrame | None = None,
    leaderboard: pd.DataFrame | None = None,
    **figures: Figure,
) -> str:
    """Write the report, one HTML file, and log what its reader must not miss."""
    from closer_look.reporting.report import render_report

    asked = set(row_metrics["method"])  # numbers from elsewhere are of other rows
    labels = method_labels(run_record["parameters"])
    labels = {name: label for name, label in labels.items() if name in asked}
    for sentence in describe_failures(results.over_seeds(summary), labels):
        log.warning("%s", sentence)
    return render_report(
        summary=summary,
        summary_table=summary_table,
        answers=answers,
        row_metrics=row_metrics,
        fingerprints=fingerprints,
        node_costs=node_costs,
        questions=questions,
        run_record=run_record,
        unknown_tokens=unknown_tokens,
        knowledge=knowledge,
        downstream=downstream,
        membership=membership,
        recovered=recovered,
        attack_results=attack_results,
        residual_knowledge=residual_knowledge,
        leaderboard=leaderboard,
        figures=figures,
    )
