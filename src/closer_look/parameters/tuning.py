"""Parameters of tuning, and the search space of a method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, PositiveInt, field_validator

from closer_look.errors import InputError
from closer_look.parameters.base import Parameters, Seed
from closer_look.parameters.methods import MethodParameters, settings_of
from closer_look.parameters.space import Dimension, Value
from closer_look.parameters.training import UnlearningParameters

if TYPE_CHECKING:
    import pandas as pd

SHARED = ("learning_rate", "epochs")
"""Parameters that all methods which train have."""


class TuningParameters(Parameters):
    """How the best settings of each method are looked for, with as many trials for all."""

    trials: PositiveInt = 12
    """Trials of each method, those that fail or are given up early among them. The first one takes
    the method's own settings. A larger number goes on where a smaller one has ended."""
    n_tasks: PositiveInt | None = None
    """Tasks that a trial unlearns, from the first; those of the experiment if None."""
    objective: Literal["forget_efficacy", "harmonic_mean"] = "forget_efficacy"
    """What is best: the highest Forget Efficacy among the trials that keep ``min_utility``, or the
    highest harmonic mean of Model Utility and Forget Efficacy."""
    min_utility: float = Field(0.95, ge=0, le=1)
    """Share of the Model Utility before unlearning that is to be kept, with the objective
    "forget_efficacy"."""
    validation_share: float = Field(0.25, gt=0, lt=1)
    """Share of the rows to evaluate, of each set and task, that decides which settings are best;
    the others are reported."""
    seed: Seed
    """Of the choice of rows, of the settings that are tried, and of the trials' training."""
    space: dict[str, Dimension] = Field(min_length=1)
    """Parameter -> values to try, of all methods; a method's own ``space`` adds to it, and replaces
    what it names."""

    @field_validator("space")
    @classmethod
    def _all_methods_have_it(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        for name in space:
            if name not in SHARED:
                raise ValueError(
                    f"{name}: all methods have {' and '.join(SHARED)} alone; give others to the "
                    f"'space' of a method"
                )
        return space


def search_space(
    method: MethodParameters, unlearning: UnlearningParameters, tuning: TuningParameters
) -> dict[str, Dimension]:
    """Return what tuning tries of a method: its dotted parameters and their values.

    Raises:
        InputError: a value does not go together with the other settings, or the space leaves out
            the method's own value, with which tuning begins, or has one that trials cannot change.
    """
    space = tuning.space | method.space
    for name in space:
        if name.startswith("alternates."):
            raise InputError(
                f"search space of {method.label}: {name} cannot be tuned, as the alternate answers "
                f"are made before the first trial; set the parameter itself"
            )
    own = own_values(method, unlearning, space)
    for name, dimension in space.items():
        where = f"search space of {method.label}: {name}"
        if own[name] not in dimension:
            raise InputError(
                f"{where}: {dimension} leaves out {own[name]}, the method's own value, with which "
                f"tuning begins; widen the space, or set another value (ends without a decimal "
                f"point, such as 0, leave out fractions)"
            )
        for point in dimension.points:
            try:
                settings_of(method.with_values({name: point}), unlearning)
            except (InputError, ValueError) as error:
                raise InputError(f"{where}: at {point}, {error}") from None
    return space


def own_values(
    method: MethodParameters, unlearning: UnlearningParameters, space: dict[str, Dimension]
) -> dict[str, Value]:
    """Return the values that a method has of the parameters of a space, before tuning.

    Raises:
        InputError: it has no value of one.
    """
    given: dict[str, Any] = dict(settings_of(method, unlearning))
    return {name: _value_of(name, method, given) for name in space}


def _value_of(name: str, method: MethodParameters, given: dict[str, Any]) -> Value:
    value: Any = given.get(name, method)
    if value is method:
        for part in name.split("."):
            value = getattr(value, part, None)
    if value is None:
        raise InputError(
            f"search space of {method.label}: {name} has no value of its own, with which tuning "
            f"begins; set one in the method's YAML"
        )
    return value


def spaces_table(
    methods: Mapping[str, MethodParameters],
    unlearning: UnlearningParameters,
    tuning: TuningParameters,
) -> pd.DataFrame:
    """List what is searched: ``method``, ``parameter``, ``values``, ``log`` and ``own`` value.

    Raises:
        InputError: see ``search_space``; the message names the method.
    """
    import pandas as pd

    lines = []
    for name, method in methods.items():
        space = search_space(method, unlearning, tuning)
        own = own_values(method, unlearning, space)
        lines += [
            {"method": name, "parameter": parameter, "values": str(dimension)}
            | {"log": dimension.log, "own": str(own[parameter])}
            for parameter, dimension in space.items()
        ]
    return pd.DataFrame(lines)
