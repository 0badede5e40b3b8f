"""The forget-set stage."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters import Experiment

from .nodes import collect_questions, draw_plans, select_evaluation


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Raw rows -> questions, a plan and a set of rows to evaluate for each task."""
    return Pipeline(
        [
            Node(
                collect_questions,
                {"experiment": "params:experiment"}
                | {split: f"raw_{split}" for split in experiment.splits},
                ["questions", "unknown_questions"],
                name="collect_questions",
            ),
            Node(
                draw_plans,
                [
                    "params:experiment",
                    "questions",
                    "refusals",
                    "params:forget_set",
                    "params:unlearning",
                ],
                [f"plan_{task}" for task in experiment.tasks],
                name="draw_plans",
            ),
            Node(
                select_evaluation,
                ["params:experiment", "questions", "params:forget_set", "params:judges"],
                [f"evaluation_{task}" for task in experiment.tasks],
                name="select_evaluation",
            ),
        ],
        tags="forget_set",
    )
