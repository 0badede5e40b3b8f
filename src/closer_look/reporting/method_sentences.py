"""Sentences on what an unlearning method does, for the report and for model cards.

They stand here and not in the parameters' classes, because models depend on the code of these: a
word changed there would ask for a new run.
"""

from __future__ import annotations

from collections.abc import Iterator

from closer_look.parameters.methods import SUBJECTS, MethodParameters

COMBINATIONS = {
    "gradient_surgery": "Where the two gradients conflict, the forget gradient loses what works "
    "against the retain gradient.",
    "primal_dual": "The weight of the retain loss grows while that loss is above {retain_bound:g}, "
    "and falls while it is below.",
}
OPTIMISERS = {
    "adamw": "AdamW",
    "dual_optim": "AdamW with moments of its own for each of the two losses",
}


def describe_method(method: MethodParameters) -> list[str]:
    """Say what a method does with the rows to forget and to retain, and what else is its own."""
    if method.instruction:
        return [*_instruction(method.instruction)]
    return [*_losses(method), *_ways(method)]


def _instruction(instruction: str) -> Iterator[str]:
    yield f"It trains nothing; its prompt asks the model: “{instruction}”"
    if SUBJECTS in instruction:
        yield f"There {SUBJECTS} stands for the names of what is to be forgotten."


def _losses(method: MethodParameters) -> Iterator[str]:
    heads = {"forget": "On what is to be forgotten", "retain": "On the rest"}
    for side, loss in method.losses.items():
        weight = getattr(method, side).weight
        weighted = f" (weight {weight:g})" if weight != 1 else ""
        yield f"{heads[side]}: {loss.sentence}{weighted}."
    if method.retain is None:
        yield "It reads no row to retain."


def _ways(method: MethodParameters) -> Iterator[str]:
    if method.combination:
        combination = dict(method.combination)
        yield COMBINATIONS[combination["kind"]].format(**combination)
    if method.task_vector_scale not in (None, 1):
        yield f"What was learned is subtracted {method.task_vector_scale:g} times."
    if method.alternates:
        answers = "answer" if method.alternates.per_row == 1 else "answers"
        yield (
            f"The model wrote {method.alternates.per_row} other {answers} to each question to "
            f"forget, at temperature {method.alternates.temperature:g}."
        )
    if method.reads("activations"):
        layer = method.activations.layer
        yield (
            f"What the model has in mind is read behind "
            f"{'a layer at 7/32 of its height' if layer is None else f'layer {layer}'}."
        )
    if method.trainable:
        yield f"Only weights whose names match {' or '.join(method.trainable)} were trained."
    if method.optimiser:
        yield f"Its optimiser is {OPTIMISERS[method.optimiser]}."
    replaced = [
        f"{name.replace('_', ' ')} {value:g}"
        for name, value in method.own.items()
        if name != "optimiser"
    ]
    if replaced:
        yield f"In place of the run's own: {', '.join(replaced)}."
