"""Functions that YAML names: those of a user's own package, and their hyperparameters."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Callable, Collection, Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError


def is_dotted_path(name: str) -> bool:
    """Whether a name is ``package.module:object`` and not one of the project's own."""
    return ":" in name


def load_object(path: str, kind: str) -> Any:
    """Import what a dotted path names.

    Args:
        path: ``package.module:object``.
        kind: what the object is to be ("loss"), for the error.

    Raises:
        ValueError: the module cannot be imported, or holds nothing of that name.
    """
    try:
        return pkgutil.resolve_name(path)
    except Exception as error:  # a module of the user's own may fail in any way
        raise ValueError(f"{kind} '{path}' cannot be imported ({error})") from None


def check_hyperparameters(
    function: Callable, given: Mapping[str, Any], provided: Collection[str], kind: str
) -> None:
    """Check keyword arguments of a function by the types and bounds in its annotations.

    Args:
        function: its annotations are read at run time.
        given: name -> value.
        provided: parameters that get their values elsewhere.
        kind: what the function is ("loss"), for the errors.

    Raises:
        ValueError: the function does not take an argument, or its value is at fault, or one has
            no value; the message names the first.
    """
    name = function.__name__
    parameters = inspect.signature(function).parameters
    accepted = {key: p for key, p in parameters.items() if key not in provided}
    for key, value in given.items():
        if key not in accepted:
            raise ValueError(f"{kind} '{name}' takes no '{key}'")
        hint = _type_hints(function, kind).get(key, Any)
        try:
            TypeAdapter(hint, config={"strict": True}).validate_python(value)
        except ValidationError as error:
            fault = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ValueError(f"{key} of {kind} '{name}': {fault}, not {value!r}") from None
    for key, parameter in accepted.items():
        if parameter.default is parameter.empty and key not in given:
            raise ValueError(f"{kind} '{name}' needs a value of '{key}'")


def _type_hints(function: Callable, kind: str) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as error:  # a type that is only imported for type checkers
        raise ValueError(
            f"{kind} '{function.__name__}': its annotations cannot be read ({error})"
        ) from None
