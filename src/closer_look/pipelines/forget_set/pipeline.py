"""The pipeline of the forget-set stage."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment

from .nodes import (
    collect_questions,
    draw_plans,
    hold_out,
    list_abilities,
    select_evaluation,
    select_known,
)


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the stage: raw rows -> questions, and a plan and rows to evaluate for each task."""
    nodes = [
        Node(
            collect_questions,
            {"experiment": "params:experiment"}
            | {split: f"raw_{split}" for split in experiment.splits},
            [
                "candidate_questions" if experiment.known_only else "questions",
                "unknown_questions",
            ],
            name="collect_questions",
        )
    ]
    if experiment.known_only:
        nodes.append(
            Node(
                select_known,
                [
                    "target_model",
                    "candidate_questions",
                    "params:forget_set",
                    "params:generation",
                    "params:judges",
                ],
                ["questions", "knowledge"],
                name="select_known",
            )
        )
    evaluated = ["params:experiment", "questions", "params:forget_set", "params:judges"]
    if experiment.retain_only == "scores":
        evaluated.append("retain_only_scores")
    if experiment.membership:
        unseen = ["params:experiment", "unknown_questions", "params:finetuning"]
        inputs = [*unseen, "params:forget_set"]
        nodes.append(Node(hold_out, inputs, "holdout", name="hold_out"))
    if experiment.downstream:
        nodes.append(Node(list_abilities, "params:downstream", "abilities", name="list_abilities"))
    return Pipeline(
        [
            *nodes,
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
                evaluated,
                [f"evaluation_{task}" for task in experiment.tasks],
                name="select_evaluation",
            ),
        ],
        tags="forget_set",
    )
