"""The pipeline of the metrics stage."""

from functools import cache

from kedro.pipeline import Node, Pipeline

from .nodes import aggregate_metrics, infer_membership, judge_answers, measure_rows


@cache  # the same for every cell
def create_pipeline(*, with_retain_only: bool = False) -> Pipeline:
    """Create the stage: generations, scores -> judgements -> row metrics -> metrics, summary.

    The scores also tell whether the forgotten rows can be told from others.

    Args:
        with_retain_only: compare with the input ``retain_only_scores``.
    """
    measured = ["row_metrics", "params:metrics"]
    told = ["scores", "evaluation", "holdout", "params:metrics"]
    retain_only = ["retain_only_scores"] if with_retain_only else []
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
            Node(
                infer_membership,
                [*told, *retain_only],
                ["membership_scores", "membership"],
                name="infer_membership",
            ),
        ],
        tags="metrics",
    )
