"""The record of a run: its parameters, code, libraries and platform."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess  # nosec B404
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from closer_look.parameters.benchmark import BenchmarkParameters
from closer_look.parameters.experiment import chosen
from closer_look.parameters.methods import MethodParameters

PROJECT = "closer-look"
UNRECORDED = ("plan", "export", "engine", "tracking", "stress", "attacks", "benchmark", "tuning")
UNRECORDED += ("erasure", "certificate")
"""Groups of parameters on which no result of a run depends; attacks and benchmarks have a record of
their own."""


def run_record(
    parameters: Mapping[str, Any], further: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Collect the record of a run as plain values, for JSON.

    Args:
        parameters: all parameters; Kedro passes those that a node takes as pydantic models.
        further: groups that are ``UNRECORDED`` else, of a run that they are part of.

    Returns:
        ``parameters`` (see ``recorded_parameters``), ``libraries`` (name -> version), ``commit``
        (of the folder's git repository; None without one), ``python`` and ``platform``.
    """
    return {
        "parameters": recorded_parameters(parameters) | plain(further or {}),
        "libraries": libraries(),
        "commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def recorded_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters as plain values, without methods that the run does not use.

    What is planned, what is exported from a run, where its nodes run, who is told, and attacks,
    which come after it, do not change it: they are left out.
    """
    values = {name: one for name, one in plain(parameters).items() if name not in UNRECORDED}
    used = chosen(values["experiment"]["methods"], values["methods"])
    return {**values, "methods": {name: values["methods"][name] for name in used}}


def of_benchmark(
    parameters: Mapping[str, Any],
    benchmark: BenchmarkParameters,
    tuned: Mapping[str, MethodParameters],
) -> dict[str, Any]:
    """Return the parameters by which a benchmark was made: its methods, as tuned, and its seeds.

    Args:
        parameters: all parameters.
        benchmark: replaces the experiment's methods, if it has any, and seeds.
        tuned: method -> settings that tuning has found.
    """
    values = plain(parameters)
    of_run = plain(benchmark)
    replaced = {name: of_run[name] for name in ("methods", "seeds") if name in of_run}
    methods = dict(values["methods"])
    for name, method in plain(dict(tuned)).items():
        methods[name] = method | {"label": methods[name]["label"]}  # which tuning leaves as it is
    return values | {"experiment": values["experiment"] | replaced, "methods": methods}


def libraries() -> dict[str, str]:
    """Return the versions of all imported and required packages: name -> version."""
    imported = {name for module in sys.modules for name in _distributions().get(module, ())}
    required = {
        re.match(r"[\w.-]+", line)[0]
        for line in metadata.requires(PROJECT) or ()
        if "extra ==" not in line
    }
    names = {_normalised(name) for name in (imported | required | {PROJECT})}
    return {name: metadata.version(name) for name in sorted(names)}


@cache
def _distributions() -> Mapping[str, list[str]]:
    """Return which packages a module may be of; to find out takes a second."""
    return metadata.packages_distributions()


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


def code_version() -> str:
    """Return the project's version, and the checked-out commit if there is one."""
    commit = git_commit()
    return metadata.version(PROJECT) + (f" {commit}" if commit else "")


def plain(value: Any) -> Any:
    """Convert pydantic models at any depth to plain values; unset values are left out."""
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_none=True)
    return {key: plain(one) for key, one in value.items()} if isinstance(value, dict) else value


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
