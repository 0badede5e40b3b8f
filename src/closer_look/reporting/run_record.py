"""The record of a run: its parameters, code, libraries and platform."""

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

from closer_look.parameters.experiment import chosen

PROJECT = "closer-look"
UNRECORDED = ("plan", "export", "engine", "stress", "attacks", "benchmark", "tuning")
"""Groups of parameters on which no result of a run depends; attacks and benchmarks have a record of
their own."""


def run_record(
    parameters: Mapping[str, Any], attacks: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Collect the record of a run as plain values, for JSON.

    Args:
        parameters: all parameters; Kedro passes those that a node takes as pydantic models.
        attacks: "stress" and "attacks" as in the parameters, those of this run.

    Returns:
        ``parameters`` (see ``recorded_parameters``), ``libraries`` (name -> version), ``commit``
        (of the folder's git repository; None without one), ``python`` and ``platform``.
    """
    return {
        "parameters": recorded_parameters(parameters) | plain(attacks or {}),
        "libraries": libraries(),
        "commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def recorded_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as plain values, without methods that the run does not use.

    What is planned, what is exported from a run, where its nodes run, and attacks, which come
    after it, do not change it: they are left out.
    """
    values = {name: one for name, one in plain(parameters).items() if name not in UNRECORDED}
    used = chosen(values["experiment"]["methods"], values["methods"])
    return {**values, "methods": {name: values["methods"][name] for name in used}}


def libraries() -> dict[str, str]:
    """Return the versions of all imported and required packages: name -> version."""
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
    """Return the hash of the checked-out commit, with "-dirty" if files differ from it."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    done = subprocess.run(  # noqa: S603
        command, capture_output=True, text=True, check=False, cwd=Path.cwd()
    )
    return done.stdout.strip() or None


def plain(value: Any) -> Any:
    """Convert pydantic models at any depth to plain values; unset values are left out."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
