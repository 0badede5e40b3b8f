"""The pipelines of the reporting stage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from kedro.pipeline import Node, Pipeline

from closer_look.data.cells import (
    BEFORE,
    Cell,
    cells_from_elsewhere,
    cells_of_numbers,
    cells_to_compare_with,
)
from closer_look.parameters.experiment import Experiment

from .nodes import (
    collect_fingerprints,
    compare_answers,
    count_unknown_tokens,
    plot_attack_map,
    plot_curves,
    plot_finetuning_curves,
    plot_forgetting_matrix,
    plot_metric_values,
    plot_trade_off,
    plot_training_curves,
    plot_truth_ratios,
    record_run,
    stack_cells,
    tabulate_seeds,
    tabulate_summary,
    write_report,
)


def create_method_pipeline(cells: Sequence[Cell]) -> Pipeline:
    """Create the pipeline that stacks a method's results, a table of each kind.

    Args:
        cells: of one method, of all its seeds and tasks.

    In kedro-viz, a method's box then has a few outputs instead of some for each task.
    """
    method = cells[0]._replace(task=None, seed=None)

    def stack(name: str, dataset: str, stacked: str) -> Node:
        inputs = {cell.namespace: cell.dataset(dataset) for cell in cells}
        output = method.dataset(stacked)
        return Node(stack_cells, inputs, output, name=name, namespace=method.namespace)

    return Pipeline(
        [
            stack("stack_summaries", "summary", "summary"),
            stack("stack_metrics", "metrics", "metrics"),
            stack("stack_logs", "training_log", "training_logs"),
            stack("stack_fingerprints", "fingerprint", "fingerprints"),
        ],
        tags=["reporting", method.method],
    )


def create_pipeline(
    scenario: str,
    experiment: Experiment,
    attacks: Collection[str] = (),
    prefix: str = "",
    tuned: Collection[str] | None = None,
) -> Pipeline:
    """Create the stage: results of every cell and method -> tables, figures, report.

    Args:
        scenario: namespace of the cells.
        experiment: the shape of the run.
        attacks: names of the attacks on the models after the last task.
        prefix: begins the names of what attacks are a part of.
        tuned: methods with settings that tuning has found; in a benchmark, which has a leaderboard.
    """
    trained = bool(experiment.methods)
    reference_points = [*cells_to_compare_with(scenario, experiment)]
    before = [cell for cell in reference_points if cell.method == BEFORE]
    methods = [Cell(scenario, method) for method in experiment.methods]
    elsewhere = cells_from_elsewhere(scenario, experiment)
    measured = [*reference_points, *methods, *elsewhere, *cells_of_numbers(scenario, experiment)]
    last = [
        *(
            method._replace(task=experiment.n_tasks, seed=seed)
            for method in methods
            for seed in experiment.each_seed
        ),
        *elsewhere,
    ]
    # Texts and benchmarks are those of the first seed.
    shown = [*before, *(cell for cell in last if cell.seed in (None, experiment.each_seed[0]))]
    labels = {key: f"params:methods.{key}.label" for key in experiment.methods}
    of_methods = dict(labels)
    labels |= {cell.method: f"params:models.{cell.method}" for cell in elsewhere}
    with_numbers = labels | {name: f"params:models.{name}" for name in experiment.evaluations}
    figures = ["trade_off", "metric_values", "truth_ratios"]

    def of(dataset: str, cells: list[Cell]) -> dict[str, str]:
        return {cell.namespace: cell.dataset(dataset) for cell in cells}

    def own(*datasets: str) -> dict[str, str]:
        return {dataset: f"{scenario}.{dataset}" for dataset in datasets}

    def node(function: Callable, inputs: dict[str, str], output: str, name: str = "") -> Node:
        name = name or function.__name__
        return Node(function, inputs, f"{scenario}.{output}", name=name, namespace=scenario)

    about_models, retain_only, residual = {}, {}, {}
    optional = []
    if trained:
        figures = ["curves", "forgetting_matrix", *figures, "training_curves"]
        logs = of("training_logs", methods)
        optional += [
            node(plot_curves, own("summary") | labels, "curves"),
            node(plot_forgetting_matrix, own("summary") | labels, "forgetting_matrix"),
            node(stack_cells, logs, "training_logs", "stack_logs"),
            node(plot_training_curves, own("training_logs") | of_methods, "training_curves"),
        ]
    if experiment.seeds:
        optional.append(node(tabulate_seeds, own("summary") | labels, "seed_table"))
    if experiment.retain_only == "scores":
        retain_only["retain_only_scores"] = "retain_only_scores"
    if experiment.finetuning and trained:
        figures += ["finetuning_curves"]
        logs = {"finetuning_log": "finetuning_log"}
        optional.append(node(plot_finetuning_curves, logs, "finetuning_curves"))
    if experiment.known_only:
        about_models["knowledge"] = "knowledge"
    if experiment.downstream:
        about_models |= own("downstream")
        stacked = of("downstream", shown)
        optional.append(node(stack_cells, stacked, "downstream", "stack_downstream"))
    if experiment.membership:
        about_models |= own("membership")
        stacked = of("membership", [*reference_points, *last])
        optional.append(node(stack_cells, stacked, "membership", "stack_membership"))
    if attacks:
        figures += ["attack_map"]
        residual = own("residual_knowledge")
        about_models |= own("recovered", "attack_results") | residual
        optional.append(node(plot_attack_map, own("attack_results") | labels, "attack_map"))
    if tuned is not None:
        figures += ["ranking", *(["pareto_fronts"] if tuned else [])]
        about_models |= own("leaderboard")
    return Pipeline(
        [
            *optional,
            node(stack_cells, of("summary", measured), "summary", "stack_summaries"),
            node(stack_cells, of("metrics", measured), "metrics", "stack_metrics"),
            node(
                stack_cells,
                of("row_metrics", [*reference_points, *last]),
                "row_metrics",
                "stack_row_metrics",
            ),
            node(
                collect_fingerprints,
                of("fingerprint", [*reference_points, *elsewhere])
                | of("fingerprints", methods)
                | {"questions": "questions"}
                | labels,
                "fingerprints",
            ),
            node(
                count_unknown_tokens,
                {"evaluation": f"evaluation_{experiment.tasks[-1]}", "judges": "params:judges"},
                "unknown_tokens",
            ),
            node(
                record_run,
                _recorded(scenario, attacks, tuned),
                f"{prefix}run_record",
                f"{prefix}record_run",
            ),
            node(compare_answers, of("generations", shown) | labels, "answers"),
            node(
                tabulate_summary,
                own("summary") | residual | with_numbers,
                f"{prefix}summary_table",
                f"{prefix}tabulate_summary",
            ),
            node(plot_trade_off, own("summary") | with_numbers, "trade_off"),
            node(
                plot_metric_values,
                own("metrics") | {"parameters": "params:metrics"} | with_numbers,
                "metric_values",
            ),
            node(plot_truth_ratios, own("row_metrics") | retain_only | labels, "truth_ratios"),
            node(
                write_report,
                own("summary", "answers", "row_metrics", "fingerprints")
                | own("node_costs", "unknown_tokens", *figures)
                | {name: f"{scenario}.{prefix}{name}" for name in ("summary_table", "run_record")}
                | {"questions": "questions"}
                | about_models,
                f"{prefix}report",
                f"{prefix}write_report",
            ),
        ],
        tags="reporting",
    )


def _recorded(
    scenario: str, attacks: Collection[str], tuned: Collection[str] | None
) -> dict[str, str]:
    """Return what the record of a run is made from."""
    inputs = {"parameters": "parameters"}
    if attacks:
        inputs |= {"stress": "params:stress"}
        inputs |= {name: f"params:attacks.{name}" for name in attacks}
    if tuned is not None:
        cells = [Cell(scenario, method) for method in tuned]
        inputs |= {"benchmark": "params:benchmark", "tuning": "params:tuning"}
        inputs |= {cell.namespace: cell.dataset("tuned_method") for cell in cells}
    return inputs
