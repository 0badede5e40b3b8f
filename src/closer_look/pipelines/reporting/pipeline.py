"""The reporting stage."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters import Experiment
from closer_look.results import BEFORE

from .nodes import (
    compare_answers,
    plot_curves,
    plot_forgetting_matrix,
    plot_trade_off,
    stack_cells,
    tabulate_summary,
    write_report,
)


def create_pipeline(scenario: str, experiment: Experiment) -> Pipeline:
    """Results of every cell -> tables, figures, report.

    A cell is the target model ("before") or a method after a task ("me_gd.task_03").
    """
    methods, tasks = experiment.methods, experiment.tasks
    cells = [BEFORE, *(f"{method}.{task}" for method in methods for task in tasks)]
    first_and_last = [BEFORE, *(f"{method}.{tasks[-1]}" for method in methods)]
    labels = {method: f"params:methods.{method}.label" for method in methods}

    def of(dataset: str, chosen: list[str]) -> dict[str, str]:
        return {cell: f"{scenario}.{cell}.{dataset}" for cell in chosen}

    def output(dataset: str) -> str:
        return f"{scenario}.{dataset}"

    drawn_from_summary = {
        "summary_table": tabulate_summary,
        "curves": plot_curves,
        "trade_off": plot_trade_off,
        "forgetting_matrix": plot_forgetting_matrix,
    }
    report_inputs = [*drawn_from_summary, "answers"]
    return Pipeline(
        [
            Node(
                stack_cells,
                of("summary", cells),
                output("summary"),
                name="stack_summaries",
                namespace=scenario,
            ),
            Node(
                stack_cells,
                of("metrics", cells),
                output("metrics"),
                name="stack_metrics",
                namespace=scenario,
            ),
            Node(
                compare_answers,
                of("generations", first_and_last) | labels,
                output("answers"),
                name="compare_answers",
                namespace=scenario,
            ),
            *(
                Node(
                    function,
                    {"summary": output("summary")} | labels,
                    output(dataset),
                    name=function.__name__,
                    namespace=scenario,
                )
                for dataset, function in drawn_from_summary.items()
            ),
            Node(
                write_report,
                {name: output(name) for name in report_inputs} | {"parameters": "parameters"},
                output("report"),
                name="write_report",
                namespace=scenario,
            ),
        ],
        tags="reporting",
    )
