"""With what a run was made: parameters, libraries, machine."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from pydantic import BaseModel

LIBRARIES = ("closer-look", "kedro", "torch", "transformers", "peft", "pandas", "plotly")


def run_record(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """What JSON can hold of a run, to be kept beside its results.

    Args:
        parameters: all of them; Kedro gives those that a node takes as pydantic models.

    Returns:
        ``parameters``, without methods that the run knew but did not use, ``libraries`` (name ->
        version), ``python`` and ``platform``.
    """
    values = plain(parameters)
    used = values["experiment"]["methods"]
    return {
        "parameters": {**values, "methods": {name: values["methods"][name] for name in used}},
        "libraries": {name: metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def plain(value: Any) -> Any:
    """Turn pydantic models, however deep, into what JSON knows; what is not set is left out."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value
