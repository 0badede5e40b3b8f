"""The base class of all parameters, and the declaration of what a node's outputs depend on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from closer_look.errors import quote

Node = TypeVar("Node", bound=Callable)


def _visible(text: str) -> str:
    """Refuse what would look like another name, or turn the text around it: a page says names."""
    if not text.strip() or not text.isprintable():
        raise ValueError(
            f"{quote(text)} must be a name on one line, without characters that are not seen"
        )
    return text


def _folder_or_name(text: str) -> str:
    if "://" in text:
        raise ValueError(f"{quote(text)} is a URL; copy the files to a folder of this machine")
    return os.path.expanduser(text)


Name = Annotated[str, AfterValidator(_visible)]
"""What tables, figures and sentences call something."""
FolderOrName = Annotated[Name, AfterValidator(_folder_or_name)]
"""A folder, which may begin with ``~``, or the name of something else."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what numpy takes


def depends_on(**groups: tuple[str, ...]) -> Callable[[Node], Node]:
    """Declare which parameter fields a node's outputs depend on.

    A group that is not named counts as a whole. The node may use other fields of a named group only
    for checks that stop the run.

    Args:
        groups: argument of the node -> names of fields.
    """
    return _with("depends_on", groups)


def ignores(**groups: tuple[str, ...]) -> Callable[[Node], Node]:
    """Declare parameter fields on which a node's outputs do not depend, such as labels.

    Args:
        groups: argument of the node -> names of fields.
    """
    return _with("ignores", groups)


def spreads(group: str, *, computes: bool = False) -> Callable[[Node], Node]:
    """Declare that a node starts processes of its own where a group's ``workers`` says so.

    Args:
        group: argument of the node.
        computes: whether the node's own process computes with a model as well.
    """

    def note(function: Node) -> Node:
        function.spread_by, function.computes = group, computes
        return function

    return note


def _with(name: str, value: object) -> Callable:
    def note(function: Node) -> Node:
        setattr(function, name, value)
        return function

    return note


class Parameters(BaseModel):
    """Base class: frozen, without unknown names, and with short error messages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def with_seed(self, seed: int | None) -> Self:
        """Return them with another seed; with their own if it is None."""
        return self if seed is None else self.model_copy(update={"seed": seed})

    @classmethod
    def model_validate(cls, *args: Any, **kwargs: Any) -> Self:
        """Validate as pydantic does, and report each fault as ``field: message``.

        Raises:
            ValueError: the values are invalid; the message lists all faults in one line.
        """
        try:
            return super().model_validate(*args, **kwargs)
        except ValidationError as error:
            faults = [
                ".".join(map(str, fault["loc"])) + ": " + fault["msg"].removeprefix("Value error, ")
                for fault in error.errors()
            ]
            raise ValueError("; ".join(faults).removeprefix(": ")) from None
