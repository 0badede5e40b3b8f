"""Names of the models of a run ("cells"), by which their results are stored."""

from __future__ import annotations

import re
from typing import NamedTuple

from closer_look.parameters.experiment import Experiment, seed_name, task_name

BEFORE, RETAIN_ONLY = "before", "retain_only"
"""Models to compare with, named as methods are: the target model before unlearning, and a model
never trained on the forget set."""


CELL = re.compile(
    r"(?P<scenario>\w+)\.(?P<method>\w+)(?:\.seed_(?P<seed>\d+))?"
    r"(?:\.task_(?P<task>\d+))?(?:\.(?P<attack>\w+))?"
)


class Cell(NamedTuple):
    """One model of a run: a method's model after a task, or a model to compare with.

    Its namespace is used in Kedro, in the catalog and in folders. Examples are
    ``continual.me_gd.task_03``, ``continual.before`` and, with every field set,
    ``continual.me_gd.seed_1002.task_03.relearn_10``.
    """

    scenario: str
    method: str
    task: int | None = None
    """The last task unlearned, counted from 1; None before the first."""
    seed: int | None = None
    """The seed, in a run that has several; else None."""
    attack: str | None = None
    """The attack made on the model, if any."""

    @property
    def name(self) -> str:
        """Name inside the scenario ("me_gd.task_03")."""
        seed = None if self.seed is None else seed_name(self.seed)
        task = None if self.task is None else task_name(self.task)
        return ".".join(part for part in (self.method, seed, task, self.attack) if part)

    @property
    def namespace(self) -> str:
        """Name inside the project ("continual.me_gd.task_03")."""
        return f"{self.scenario}.{self.name}"

    @property
    def after_task(self) -> int:
        """Number of tasks unlearned."""
        return self.task or 0

    def dataset(self, name: str) -> str:
        """Return the catalog entry of a result ("continual.me_gd.task_03.scores")."""
        return f"{self.namespace}.{name}"

    @classmethod
    def parse(cls, namespace: str) -> Cell:
        """Parse a namespace into a cell.

        Raises:
            ValueError: the namespace is not that of a cell.
        """
        found = CELL.fullmatch(namespace)
        if found is None:
            raise ValueError(f"'{namespace}' is not the namespace of a cell")
        seed, task = (found[axis] and int(found[axis]) for axis in ("seed", "task"))
        return cls(found["scenario"], found["method"], task, seed, found["attack"])

    @classmethod
    def around(cls, name: str) -> Cell | None:
        """Return the cell that a node or dataset belongs to, or None."""
        namespace = name.rpartition(".")[0]
        return cls.parse(namespace) if CELL.fullmatch(namespace) else None


def cells_to_compare_with(scenario: str, experiment: Experiment) -> dict[Cell, str]:
    """List the models of a run that no method makes: cell -> dataset of its model.

    A run without methods trains nothing: it has a target model only if that is a pretrained one.
    """
    models = {}
    if experiment.methods or not experiment.finetuning:
        models[Cell(scenario, BEFORE)] = "target_model"
    if experiment.retain_only in ("finetuned", "pretrained"):
        models[Cell(scenario, RETAIN_ONLY)] = "retain_only_model"
    return models


def cells_from_elsewhere(scenario: str, experiment: Experiment) -> list[Cell]:
    """List the models made elsewhere, which count as models after the last task."""
    return [Cell(scenario, name, experiment.n_tasks) for name in experiment.models or ()]


def cells_of_numbers(scenario: str, experiment: Experiment) -> list[Cell]:
    """List the models made elsewhere of which there are only numbers, of the last task."""
    return [Cell(scenario, name, experiment.n_tasks) for name in experiment.evaluations]
