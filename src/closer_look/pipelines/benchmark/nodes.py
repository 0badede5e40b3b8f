"""Nodes of the benchmark stage.

Keyword arguments ``labels`` map a method to its label.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from closer_look import metrics as measured
from closer_look.data.cells import BEFORE
from closer_look.parameters.base import depends_on
from closer_look.parameters.benchmark import BenchmarkParameters
from closer_look.parameters.evaluation import MetricsParameters
from closer_look.parameters.tuning import TuningParameters
from closer_look.reporting import leaderboard as board

Figure = Any  # of plotly, whose import is slow: Kedro resolves the annotations of nodes

log = logging.getLogger(__name__)


@depends_on(benchmark=("rank_by",), tuning=("min_utility",), parameters=("seed",))
def compare_methods(
    row_metrics: pd.DataFrame,
    benchmark: BenchmarkParameters,
    tuning: TuningParameters,
    parameters: MetricsParameters,
    **labels: str,
) -> pd.DataFrame:
    """Rank the methods by their last models, and test neighbours."""
    return measured.compare(
        row_metrics,
        [*labels],
        BEFORE,
        rank_by=benchmark.rank_by,
        min_utility=tuning.min_utility,
        seed=parameters.seed,
    )


def make_leaderboard(
    comparison: pd.DataFrame,
    summary_table: pd.DataFrame,
    metrics: pd.DataFrame,
    node_costs: pd.DataFrame,
    membership: pd.DataFrame | None = None,
    trials: pd.DataFrame | None = None,
    search_spaces: pd.DataFrame | None = None,
    residual_knowledge: pd.DataFrame | None = None,
    **labels: str,
) -> pd.DataFrame:
    """Put together what was measured of each method, and log it."""
    settings = {} if trials is None else board.best_settings(trials, search_spaces)
    table = board.leaderboard(
        comparison,
        summary_table,
        metrics,
        node_costs,
        labels,
        settings,
        membership,
        residual_knowledge,
    )
    log.info("Leaderboard\n%s", board.plain_table(table))
    return table


def write_leaderboard(
    leaderboard: pd.DataFrame, summary_table: pd.DataFrame, run_record: dict[str, Any]
) -> str:
    """Write the leaderboard as Markdown."""
    return board.markdown(leaderboard, summary_table, run_record["parameters"])


def plot_ranking(leaderboard: pd.DataFrame, **labels: str) -> Figure:
    """Draw the scores with their intervals."""
    from closer_look.reporting.figures_of_benchmark import ranking

    return ranking(leaderboard, labels)
