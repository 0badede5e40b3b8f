"""The metrics stage."""

from kedro.pipeline import Node, Pipeline

from .nodes import aggregate_metrics, judge_answers, measure_rows


def create_pipeline() -> Pipeline:
    """Generations, scores -> judgements -> row metrics -> metrics, summary."""
    return Pipeline(
        [
            Node(
                judge_answers,
                ["generations", "evaluation", "params:judges"],
                "judgements",
                name="judge_answers",
            ),
            Node(
                measure_rows,
                ["scores", "generations", "judgements"],
                "row_metrics",
                name="measure_rows",
            ),
            Node(
                aggregate_metrics,
                ["row_metrics", "params:metrics"],
                ["metrics", "summary"],
                name="aggregate_metrics",
            ),
        ],
        tags="metrics",
    )
