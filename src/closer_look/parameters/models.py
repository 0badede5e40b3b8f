"""Parameters of the models that a run starts from."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    PositiveFloat,
    PositiveInt,
    StringConstraints,
    field_validator,
    model_validator,
)

from closer_look.parameters.base import FolderOrName, Name, Parameters, Seed

Style = Literal["plain", "llama2", "chat_template"]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*$")]


class PromptParameters(Parameters):
    """Settings of a run's prompts, which hold for every model's chat template."""

    system: str | None = None
    """A system message before each question."""
    template_arguments: dict[Identifier, bool | int | float | str] = Field(default_factory=dict)
    """Variables of the chat template. ``enable_thinking`` and ``thinking`` are false unless they
    are given here: an answer is the text that follows no reasoning."""
    date: datetime.date = datetime.date(2026, 1, 1)
    """The date that templates print, if they print one: the same on every day of a run."""


class SmallLlamaParameters(Parameters):
    """A Llama, initialised at random, with its own byte-level BPE tokenizer.

    ``initializer_range`` is the standard deviation of its weights, as in ``LlamaConfig``.
    """

    vocabulary_size: PositiveInt
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    layers: PositiveInt
    heads: PositiveInt
    context_length: PositiveInt
    initializer_range: PositiveFloat
    seed: Seed

    @model_validator(mode="after")
    def _heads_share_the_hidden_size(self) -> Self:
        if self.hidden_size % (2 * self.heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be an even multiple of heads {self.heads}"
            )
        return self


class BaseModelParameters(Parameters):
    """The model that the target model starts from: a pretrained one, or a small Llama."""

    pretrained: FolderOrName | None = None
    """Folder or hub name."""
    sha256: str | None = None
    """Hash of ``model.safetensors`` in the folder ``pretrained``, checked before training."""
    small_llama: SmallLlamaParameters | None = None
    prompt: Style

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        if (self.pretrained is None) == (self.small_llama is None):
            raise ValueError("give either 'pretrained' or 'small_llama'")
        return self


class ExportParameters(Parameters):
    """What ``kedro run --pipelines export`` writes; no result of a run depends on it."""

    adapters: Literal["merged", "separate"] = "merged"
    """LoRA adapters become part of the weights, or stay a folder of their own, which needs the
    target model where it is. On a quantised model they have to stay."""


class RetainOnlyParameters(Parameters):
    """The model of ``experiment.retain_only: pretrained``; its prompt is the base model's."""

    pretrained: FolderOrName
    """Folder or hub name."""


class PretrainedParameters(Parameters):
    """A pretrained model that is measured as it is."""

    pretrained: FolderOrName
    """Folder or hub name."""
    prompt: Style = "chat_template"


class MeasuredModelParameters(Parameters):
    """A model made elsewhere, measured beside a run's methods; its key names it in paths."""

    base_model: PretrainedParameters | None = None
    evaluation: FolderOrName | None = None
    """In place of the model, the folder of its evaluation by OpenUnlearning: the model is not
    asked, and only its numbers are compared."""
    label: Name | None = None
    """Its name in tables and figures; the key if absent."""

    @field_validator("base_model", mode="before")
    @classmethod
    def _by_name(cls, base_model: Any) -> Any:
        return {"pretrained": base_model} if isinstance(base_model, str) else base_model

    @model_validator(mode="after")
    def _model_or_numbers(self) -> Self:
        if (self.base_model is None) == (self.evaluation is None):
            raise ValueError("give either 'base_model' or 'evaluation'")
        return self
