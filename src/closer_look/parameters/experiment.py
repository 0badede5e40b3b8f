"""Parameters of a run's shape and of its rows."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, PositiveInt, model_validator

from closer_look.parameters.base import Parameters, Seed

Split = Literal["forget", "retain", "real_authors", "world_facts", "neighbour"]
SPLITS = get_args(Split)
ALL = ("all",)
"""What stands for all names of a group."""


def _words(names: Any) -> Any:
    """Split a string into words: on the command line, a comma separates parameters."""
    return names.split() if isinstance(names, str) else names


def _numbers(seeds: Any) -> Any:
    """Split a string into numbers; on the command line, a single one is no string."""
    return str(seeds).split() if isinstance(seeds, str | int | float) else seeds


def _named_once(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"'{name}' is named more than once")
    return names


def _drawn_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    for seed in seeds:
        if seeds.count(seed) > 1:
            raise ValueError(f"seed {seed} is given more than once")
    return seeds


Names = Annotated[tuple[str, ...], BeforeValidator(_words), AfterValidator(_named_once)]
"""Names, each once; on the command line they are words of one string."""
SomeNames = Annotated[
    tuple[str, ...],
    Field(min_length=1),
    BeforeValidator(_words),
    AfterValidator(_named_once),
]
"""The same, and at least one."""
Seeds = Annotated[
    tuple[Seed, ...],
    Field(max_length=999),
    BeforeValidator(_numbers),
    AfterValidator(_drawn_once),
]
"""Seeds, each once; on the command line they are numbers in one string."""


def task_name(number: int) -> str:
    """Format the name of a task: 3 -> "task_03", 100 -> "task_100"."""
    return f"task_{number:02d}"


def seed_name(seed: int) -> str:
    """Format the name of a seed: 1001 -> "seed_1001"."""
    return f"seed_{seed}"


def plan_name(task: str, seed: int | None = None) -> str:
    """Return the dataset of a task's plan, of a seed if the run has several."""
    return f"plan_{task}" if seed is None else f"plan_{seed_name(seed)}_{task}"


def chosen(names: Collection[str], known: Collection[str]) -> tuple[str, ...]:
    """Return the names, or, if they are "all", the known ones in alphabetical order."""
    return tuple(sorted(known)) if tuple(names) == ALL else tuple(names)


class Experiment(Parameters):
    """The shape of a run: its methods, its tasks, and the models that it starts from."""

    methods: SomeNames
    """Methods by their names in ``methods``; "all" for all."""
    models: Names | None = None
    """Models made elsewhere to measure beside the methods; all of ``models`` if absent."""
    evaluations: tuple[str, ...] = Field((), exclude=True)
    """Those of them that are known only by numbers (``project.experiment`` tells them apart)."""
    n_tasks: Annotated[int, Field(ge=1, le=999)]
    """With several methods, fewer (see ``project.experiment``)."""
    seeds: Seeds | None = None
    """Each draws its own plans and trains every method once, from the same target model; if absent,
    ``forget_set.seed`` and ``unlearning.seed`` count, and each method is trained once."""
    seed_target: bool = False
    """Each seed also makes a target model of its own: it takes the place of ``finetuning.seed`` and
    ``base_model.small_llama.seed``. What is measured before unlearning, and tuning, are of the
    first seed; a retain-only model starts from its base model."""
    splits: Annotated[tuple[Split, ...], AfterValidator(_named_once)]
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
    membership: bool | Literal["own_rows"] = False
    """Measure whether a model's likelihoods tell the forgotten rows from rows that it never saw:
    these are then scored in every evaluation, too. They are rows of tasks after the run's, or, with
    "own_rows", those of the file ``holdout`` beside the others."""
    stress: Names | None = None
    """Attacks on the models after the last task, by their names in ``attacks``; "all" for all."""
    on_other_versions: Literal["warn", "refuse"] = Field("warn", exclude=True)  # changes no result
    """What to do with results that other versions of torch, transformers, ... have made."""

    @model_validator(mode="after")
    def _retain_only_model_never_saw_it(self) -> Self:
        if self.retain_only == "finetuned" and not self.finetuning:
            raise ValueError(
                "retain_only: 'finetuned' starts from the base model, but with finetuning: false "
                "that model knows the forget set; choose 'pretrained' or 'scores'"
            )
        return self

    @model_validator(mode="after")
    def _target_models_are_made(self) -> Self:
        if self.seed_target and (self.known_only or not self.finetuning):
            reason = "finetuning: false makes none"
            if self.known_only:
                reason = "with known_only: true, each would be asked other questions"
            raise ValueError(f"seed_target: a target model for each seed, but {reason}")
        return self

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks, in the order of unlearning."""
        return tuple(map(task_name, range(1, self.n_tasks + 1)))

    @property
    def each_seed(self) -> tuple[int | None, ...]:
        """The seeds of the cells; only None in a run without seeds."""
        return self.seeds or (None,)

    def of_seed(self, dataset: str, seed: int | None) -> str:
        """Return the dataset of a model that seeds share, or the seed's own if it has one."""
        is_shared = not self.seed_target or seed == self.each_seed[0]
        return dataset if seed is None or is_shared else f"{dataset}_{seed_name(seed)}"


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
    seed: Seed
