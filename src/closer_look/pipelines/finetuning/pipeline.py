"""The pipeline of the fine-tuning stage."""

from functools import partial

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment, seed_name

from .nodes import (
    finetune,
    finetune_retain_only,
    initialise,
    take_model,
    take_pretrained,
    take_retain_only,
)


def create_pipeline(experiment: Experiment) -> Pipeline:
    """Create the stage: questions -> base model -> target model, or a pretrained target model.

    With ``experiment.retain_only``, it also makes a retain-only model, and with
    ``experiment.seed_target`` a target model for each seed.
    """
    questions = "candidate_questions" if experiment.known_only else "questions"
    taught = [
        "base_model",
        questions,
        "unknown_questions",
        "refusals",
        "params:finetuning",
    ]
    started = [questions, "refusals", "params:base_model", "params:prompt"]
    started += ["params:unlearning", "params:generation", "params:experiment", "params:methods"]
    started.append("params:forget_set")
    nodes = []
    if experiment.finetuning:
        for seed in experiment.each_seed if experiment.seed_target else (None,):
            own = partial(experiment.of_seed, seed=seed)
            seeds = [] if seed is None else [seed_name(seed)]
            base, target = own("base_model"), own("target_model")
            learned = [base, *taught[1:], own("finetuning_checkpoints"), *seeds]
            nodes += [
                Node(initialise, [*started, *seeds], base, name=own("initialise"), tags=seeds),
                Node(
                    finetune,
                    learned,
                    [target, own("finetuning_log")],
                    name=own("finetune"),
                    tags=seeds,
                ),
            ]
    else:
        nodes.append(
            Node(
                take_pretrained,
                started,
                "target_model",
                name="take_pretrained",
            )
        )
    if experiment.retain_only == "finetuned":
        nodes.append(
            Node(
                finetune_retain_only,
                [*taught, "retain_only_checkpoints"],
                ["retain_only_model", "retain_only_log"],
                name="finetune_retain_only",
            )
        )
    if experiment.retain_only == "pretrained":
        nodes.append(
            Node(
                take_retain_only,
                [
                    questions,
                    "params:base_model",
                    "params:prompt",
                    "params:retain_only",
                    "params:generation",
                    "params:forget_set",
                ],
                "retain_only_model",
                name="take_retain_only",
            )
        )
    return Pipeline(nodes, tags="finetuning")


def create_model_pipeline() -> Pipeline:
    """Create the pipeline that takes a model made elsewhere, to measure it."""
    taken = ["questions", "params:model", "params:prompt", "params:generation"]
    taken.append("params:forget_set")
    return Pipeline([Node(take_model, taken, "model", name="take_model")], tags="finetuning")
