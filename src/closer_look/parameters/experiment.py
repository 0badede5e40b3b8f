"""Parameters of a run's shape and of its rows."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PositiveInt, field_validator, model_validator

from closer_look.parameters.base import Parameters

Split = Literal["forget", "retain", "real_authors", "world_facts", "neighbour"]
SPLITS = get_args(Split)


def task_name(number: int) -> str:
    """Format the name of a task: 3 -> "task_03", 100 -> "task_100"."""
    return f"task_{number:02d}"


class Experiment(Parameters):
    """The shape of a run: its methods, its tasks, and the models that it starts from."""

    methods: tuple[str, ...] = Field(min_length=1)
    models: tuple[str, ...] | None = None
    """Models made elsewhere to measure beside the methods; all of ``models`` if absent."""
    n_tasks: Annotated[int, Field(ge=1, le=999)]
    """With several methods, fewer (see ``project.experiment``)."""
    splits: tuple[Split, ...]
    """The raw tables; each is read from the catalog entry ``raw_<split>``."""
    finetuning: bool = True
    """Fine-tune the base model on the questions first; if false, the target model is the pretrained
    base model."""
    known_only: bool = False
    """Leave out questions that the target model cannot answer."""
    reference: Literal["previous", "first"] = "previous"
    """The frozen reference of a task: the model after the previous task (the published default), or
    the target model for all tasks."""
    retain_only: Literal["finetuned", "pretrained", "scores"] | None = None
    """A model never trained on the forget set, for Forget Quality: fine-tuned in this run,
    pretrained, or only its stored scores."""
    downstream: bool = False
    """Measure general abilities before and after unlearning."""
    membership: bool = False
    """Measure whether a model's likelihoods tell the forgotten rows from rows that it never saw:
    these are then scored in every evaluation, too."""
    stress: tuple[str, ...] | None = None
    """Attacks on the models after the last task, by their names in ``attacks``; "all" for all."""
    on_other_versions: Literal["warn", "refuse"] = Field("warn", exclude=True)  # changes no result
    """What to do with results that other versions of torch, transformers, ... have made."""

    @field_validator("methods", "models", "stress", mode="before")
    @classmethod
    def _words(cls, names: Any) -> Any:
        """Split a string into words: on the command line, a comma separates parameters."""
        return names.split() if isinstance(names, str) else names

    @field_validator("methods", "models", "splits", "stress")
    @classmethod
    def _named_once(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if names.count(name) > 1:
                raise ValueError(f"'{name}' is named more than once")
        return names

    @model_validator(mode="after")
    def _retain_only_model_never_saw_it(self) -> Self:
        if self.retain_only == "finetuned" and not self.finetuning:
            raise ValueError(
                "retain_only: 'finetuned' starts from the base model, but with finetuning: false "
                "that model knows the forget set; choose 'pretrained' or 'scores'"
            )
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of unlearning."""
        return tuple(map(task_name, range(1, self.n_tasks + 1)))


class ForgetSetParameters(Parameters):
    """The pairing of forget and retain rows, and the choice of rows to evaluate."""

    pairing: Literal["per_epoch", "fixed"] = "per_epoch"
    """Partners of a forget row: new retain rows and refusals in each epoch (the paper's expectation
    over the retain set), or the same in all epochs (the published code)."""
    evaluation_rows: PositiveInt
    """Rows to evaluate of each split and task, from the first; 300 in the published code."""
    evaluated_splits: tuple[Split, ...] | None = None
    """Splits to evaluate; all if absent."""
    min_rouge: float = Field(0.5, ge=0, le=1)
    """With ``experiment.known_only``, the target model knows a question if the ROUGE-L recall of
    its answer is at least this, and the entailment judge agrees."""
    seed: int
