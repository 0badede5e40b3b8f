"""The pipeline of the benchmark stage."""

from __future__ import annotations

from collections.abc import Callable, Collection

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment

from .nodes import compare_methods, make_leaderboard, plot_ranking, write_leaderboard


def create_pipeline(
    scenario: str, experiment: Experiment, tuned: Collection[str], attacks: Collection[str] = ()
) -> Pipeline:
    """Create the stage: what all methods gave -> a leaderboard, as CSV, Markdown and figure.

    Args:
        scenario: namespace of the methods' results.
        experiment: the shape of the run.
        tuned: methods with settings that tuning has found.
        attacks: names of the attacks, if there are any.
    """
    labels = {method: f"params:methods.{method}.label" for method in experiment.methods}

    def own(*datasets: str) -> dict[str, str]:
        return {dataset: f"{scenario}.{dataset}" for dataset in datasets}

    def node(function: Callable, inputs: dict[str, str], output: str) -> Node:
        name = function.__name__
        return Node(function, inputs, f"{scenario}.{output}", name=name, namespace=scenario)

    ranking = {
        "benchmark": "params:benchmark",
        "tuning": "params:tuning",
        "parameters": "params:metrics",
    }
    shown = ["comparison", "summary_table", "metrics", "node_costs"]
    if experiment.membership:
        shown.append("membership")
    if attacks:
        shown.append("residual_knowledge")
    searched = {}
    if tuned:
        shown.append("trials")
        searched["search_spaces"] = "search_spaces"
    return Pipeline(
        [
            node(compare_methods, own("row_metrics") | ranking | labels, "comparison"),
            node(make_leaderboard, own(*shown) | searched | labels, "leaderboard"),
            node(
                write_leaderboard,
                own("leaderboard", "summary_table", "run_record"),
                "leaderboard_text",
            ),
            node(plot_ranking, own("leaderboard") | labels, "ranking"),
        ],
        tags="benchmark",
    )
