"""The cells of a run: which model a result is of."""

from __future__ import annotations

import re
from typing import NamedTuple

BEFORE, RETAIN_ONLY = "before", "retain_only"
"""Methods that unlearn nothing: the target model, and a model never trained on what is
forgotten."""


CELL = re.compile(
    r"(?P<scenario>\w+)\.(?P<method>\w+)(?:\.seed_(?P<seed>\d+))?"
    r"(?:\.task_(?P<task>\d+)(?:\.(?P<attack>\w+))?)?"
)


def task_name(number: int) -> str:
    """Name a task as namespaces and folders do: 3 -> "task_03"."""
    return f"task_{number:02d}"


class Cell(NamedTuple):
    """A model of a run: of a method after a task, or one to compare with.

    Its name is what stands in namespaces, in the catalog and in folders, such as
    ``continual.me_gd.task_03``, ``continual.before`` or, with all axes,
    ``continual.me_gd.seed_1002.task_03.relearn_10``.
    """

    scenario: str
    method: str
    task: int | None = None
    """The last task unlearned, from 1; None before the first."""
    seed: int | None = None
    """Where a run has several."""
    attack: str | None = None
    """What was done to the model after the task."""

    @property
    def name(self) -> str:
        """The name inside the scenario ("me_gd.task_03")."""
        seed = None if self.seed is None else f"seed_{self.seed}"
        task = None if self.task is None else task_name(self.task)
        return ".".join(part for part in (self.method, seed, task, self.attack) if part)

    @property
    def namespace(self) -> str:
        """The name inside the project ("continual.me_gd.task_03")."""
        return f"{self.scenario}.{self.name}"

    @property
    def after_task(self) -> int:
        """Number of tasks unlearned."""
        return self.task or 0

    def dataset(self, name: str) -> str:
        """The catalog entry of one of its results ("continual.me_gd.task_03.scores")."""
        return f"{self.namespace}.{name}"

    @classmethod
    def parse(cls, namespace: str) -> Cell:
        """Read a cell from its namespace.

        Raises:
            ValueError: it is the namespace of no cell.
        """
        found = CELL.fullmatch(namespace)
        if found is None:
            raise ValueError(f"'{namespace}' is the namespace of no cell")
        seed, task = (found[axis] and int(found[axis]) for axis in ("seed", "task"))
        return cls(found["scenario"], found["method"], task, seed, found["attack"])

    @classmethod
    def around(cls, name: str) -> Cell | None:
        """Return the cell in whose namespace a node or dataset lies; None if it is in no cell."""
        namespace = name.rpartition(".")[0]
        return cls.parse(namespace) if CELL.fullmatch(namespace) else None
