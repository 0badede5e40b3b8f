"""Parameters of the attacks on unlearned models."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict, PositiveInt

from closer_look.parameters.base import Name, Parameters, Seed
from closer_look.plugins import is_dotted_path

ATTACKS = "closer_look.evaluation.attacks"


class StressParameters(Parameters):
    """The rows that are attacked."""

    rows: PositiveInt = 40
    """Largest number of forget rows that are attacked, as many of each task; they are drawn."""
    seed: Seed
    """Of the choice of rows, and of the attacks."""


class AttackParameters(Parameters):
    """An attack: its name, and its hyperparameters (such as the number of samples)."""

    model_config = ConfigDict(frozen=True, extra="allow")

    attack: str
    """A name in ``evaluation.attacks``, or ``package.module:function`` for one of your own."""
    label: Name | None = None
    """Replaces the attack's own label in tables and figures."""

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Keyword arguments of the attack in addition to model, rows and context."""
        return dict(self.model_extra or {})

    @property
    def named_code(self) -> dict[str, str]:
        """Code that these parameters name; what the attack gets back depends on it."""
        name = self.attack
        path = name if is_dotted_path(name) else f"{ATTACKS}.{name}:{name}"
        return {f"attack {name}": path}
