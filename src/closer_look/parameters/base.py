"""The base of all parameters, and how a node declares which of them its outputs depend on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

Node = TypeVar("Node", bound=Callable)


def depends_on(**groups: tuple[str, ...]) -> Callable[[Node], Node]:
    """Declare on which fields of its parameters a node's outputs depend.

    Groups that are not named count as a whole. Other fields may only be used for checks that stop
    the run.

    Args:
        groups: argument -> names of fields.
    """

    def note(function: Node) -> Node:
        function.depends_on = groups
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
