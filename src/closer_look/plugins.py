"""Losses and metrics of a user's own package, named in YAML by their dotted path."""

from __future__ import annotations

import pkgutil
from typing import Any


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
