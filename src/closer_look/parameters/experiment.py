"""The shape of a run, and which rows take part in it."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import Field, PositiveInt, field_validator, model_validator

from closer_look.parameters.base import Parameters

Split = Literal["forget", "retain", "real_authors", "world_facts", "neighbour"]
SPLITS = get_args(Split)


class Experiment(Parameters):
    """The shape of a run: which methods are chained over how many tasks, and from what."""

    methods: tuple[str, ...] = Field(min_length=1)
    n_tasks: PositiveInt
    splits: tuple[Split, ...]
    """Which raw tables there are; each is read from the catalog entry ``raw_<split>``."""
    finetuning: bool = True
    """Whether the target model first has to learn the questions; else it is the pretrained base
    model as it is."""
    known_only: bool = False
    """Whether questions that the target model cannot answer are left out."""
    reference: Literal["previous", "first"] = "previous"
    """The frozen reference of a task: the model after the task before it (the published default),
    or the target model for all tasks."""
    retain_only: Literal["finetuned", "pretrained", "scores"] | None = None
    """A model that never saw what is forgotten, for Forget Quality: fine-tuned in this run, or a
    pretrained one, or only its stored scores."""
    downstream: bool = False
    """Whether general abilities are measured before and after."""

    @field_validator("methods", mode="before")
    @classmethod
    def _words(cls, methods: Any) -> Any:
        """On the command line, where a comma parts parameters, a list is words."""
        return methods.split() if isinstance(methods, str) else methods

    @field_validator("methods", "splits")
    @classmethod
    def _named_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"'{name}' is named more than once")
        return names

    @model_validator(mode="after")
    def _retain_only_model_never_saw_it(self) -> Self:
        if self.retain_only == "finetuned" and not self.finetuning:
            raise ValueError(
                "retain_only: 'finetuned' starts from the base model, which is here the target "
                "model and knows what is forgotten; choose 'pretrained' or 'scores'"
            )
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks in the order in which they are unlearned."""
        return tuple(f"task_{number:02d}" for number in range(1, self.n_tasks + 1))


class ForgetSetParameters(Parameters):
    """What is unlearned beside what, and which rows are evaluated."""

    pairing: Literal["per_epoch", "fixed"] = "per_epoch"
    """Whether a forget row meets other retain rows and refusals in each epoch (the paper's
    expectation over the retain set) or one for good (the published code)."""
    evaluation_rows: PositiveInt
    """Rows evaluated of each split and task, the first ones; 300 in the published code."""
    evaluated_splits: tuple[Split, ...] | None = None
    """All if absent."""
    min_rouge: float = Field(0.5, ge=0, le=1)
    """Under ``experiment.known_only``, the target model can answer a question if the ROUGE-L recall
    of its answer is at least that, and the entailment judge agrees."""
    seed: int
