"""The pipeline of the metrics stage."""

from functools import cache

from kedro.pipeline import Node, Pipeline

from .nodes import (
    aggregate_metrics,
    infer_membership,
    judge_answers,
    measure_rows,
    read_numbers,
)


@cache  # the same for every cell
def create_pipeline(*, with_retain_only: bool = False, with_holdout: bool = False) -> Pipeline:
    """Create the stage: generations, scores -> judgements -> row metrics -> metrics, summary.

    Args:
        with_retain_only: compare with the input ``retain_only_scores``.
        with_holdout: measure, too, whether the scores tell the forgotten rows from those of the
            input ``holdout``.
    """
    measured = ["row_metrics", "params:metrics"]
    retain_only = ["retain_only_scores"] if with_retain_only else []
    infer = Node(
        infer_membership,
        ["scores", "evaluation", "holdout", "params:metrics", *retain_only],
        ["membership_scores", "membership"],
        name="infer_membership",
    )
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
                ["scores", "generations", "judgements", "params:metrics"],
                "row_metrics",
                name="measure_rows",
            ),
            Node(
                aggregate_metrics,
                [*measured, *retain_only],
                ["metrics", "summary"],
                name="aggregate_metrics",
            ),
            *([infer] if with_holdout else []),
        ],
        tags="metrics",
    )


def create_numbers_pipeline() -> Pipeline:
    """Create the pipeline of a model that was evaluated elsewhere: metrics, summary."""
    read = ["evaluation", "params:model", "params:metrics"]
    return Pipeline(
        [Node(read_numbers, read, ["metrics", "summary"], name="read_numbers")], tags="metrics"
    )
