"""What a run was made with: parameters, code, libraries, machine."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess  # nosec B404
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

PROJECT = "closer-look"


def run_record(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Collect what JSON can hold of a run, to be kept with its results.

    Args:
        parameters: all of them; Kedro gives those that a node takes as pydantic models.

    Returns:
        ``parameters`` (see ``recorded_parameters``), ``libraries`` (name -> version), ``commit``
        (of the folder's git repository; None where there is none), ``python`` and ``platform``.
    """
    return {
        "parameters": recorded_parameters(parameters),
        "libraries": libraries(),
        "commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def recorded_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as plain values, without methods that the run does not use."""
    values = plain(parameters)
    used = values["experiment"]["methods"]
    return {**values, "methods": {name: values["methods"][name] for name in used}}


def libraries() -> dict[str, str]:
    """Versions of all that is imported, and of what the project requires: name -> version."""
    of_module = metadata.packages_distributions()
    imported = {name for module in sys.modules for name in of_module.get(module, ())}
    required = {
        re.match(r"[\w.-]+", line)[0]
        for line in metadata.requires(PROJECT) or ()
        if "extra ==" not in line
    }
    names = {_normalised(name) for name in (imported | required | {PROJECT})}
    return {name: metadata.version(name) for name in sorted(names)}


def git_commit() -> str | None:
    """Hash of the commit that is checked out here, with "-dirty" where files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    return done.stdout.strip() or None


def plain(value: Any) -> Any:
    """Turn pydantic models, however deep, into what JSON knows; what is not set is left out."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
