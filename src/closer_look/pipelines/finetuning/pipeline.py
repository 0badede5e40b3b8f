"""The pipeline of the fine-tuning stage."""

from kedro.pipeline import Node, Pipeline

from closer_look.parameters.experiment import Experiment

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

    With ``experiment.retain_only``, it also makes a retain-only model.
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
    nodes = []
    if experiment.finetuning:
        nodes.append(
            Node(
                initialise,
                started,
                "base_model",
                name="initialise",
            )
        )
        nodes.append(
            Node(
                finetune,
                [*taught, "finetuning_checkpoints"],
                ["target_model", "finetuning_log"],
                name="finetune",
            )
        )
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
                ],
                "retain_only_model",
                name="take_retain_only",
            )
        )
    return Pipeline(nodes, tags="finetuning")


def create_model_pipeline() -> Pipeline:
    """Create the pipeline that takes a model made elsewhere, to measure it."""
    taken = ["questions", "params:model", "params:prompt", "params:generation"]
    return Pipeline([Node(take_model, taken, "model", name="take_model")], tags="finetuning")
