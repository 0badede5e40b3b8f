"""The pipeline of the forget-set stage."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment, plan_name, seed_name

from .nodes import (
    collect_questions,
    draw_plans,
    hold_out,
    list_abilities,
    select_evaluation,
    select_known,
    take_holdout,
)


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the stage: raw rows -> questions, and a plan and rows to evaluate for each task.

    With ``experiment.seeds``, there is a plan for each task and seed.
    """
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
    if experiment.membership == "own_rows":
        inputs = ["raw_holdout", "questions", "params:forget_set"]
        nodes.append(Node(take_holdout, inputs, "holdout", name="hold_out"))
    elif experiment.membership:
        unseen = ["params:experiment", "unknown_questions", "params:finetuning"]
        inputs = [*unseen, "params:forget_set"]
        nodes.append(Node(hold_out, inputs, "holdout", name="hold_out"))
    if experiment.downstream:
        nodes.append(Node(list_abilities, "params:downstream", "abilities", name="list_abilities"))
    return Pipeline(
        [
            *nodes,
            *(_draw_plans(experiment, seed) for seed in experiment.each_seed),
            Node(
                select_evaluation,
                evaluated,
                [f"evaluation_{task}" for task in experiment.tasks],
                name="select_evaluation",
            ),
        ],
        tags="forget_set",
    )


def create_preview_pipeline(experiment: Experiment, look: Node, namespace: str) -> Pipeline:
    """Create the pipeline of a node that looks at the questions before a run.

    Its tables are its own, in memory, so it leaves those of the run alone.
    """
    # No model says which questions it knows: all are candidates.
    of_all = experiment.model_copy(update={"known_only": False})
    collect = create_pipeline(of_all).filter(node_names=["collect_questions"])
    pipeline = collect + Pipeline([look])
    parameters = {name for name in pipeline.inputs() if name.startswith("params:")}
    return Pipeline(
        pipeline,
        namespace=namespace,
        inputs=pipeline.inputs() - parameters,
        outputs={*look.outputs},
        parameters=parameters,
    )


def _draw_plans(experiment: Experiment, seed: int | None) -> Node:
    inputs = ["params:experiment", "questions", "refusals"]
    inputs += ["params:forget_set", "params:unlearning"]
    outputs = [plan_name(task, seed) for task in experiment.tasks]
    if seed is None:
        return Node(draw_plans, inputs, outputs, name="draw_plans")
    seeded = seed_name(seed)
    return Node(draw_plans, [*inputs, seeded], outputs, name=f"draw_plans_{seeded}", tags=[seeded])
