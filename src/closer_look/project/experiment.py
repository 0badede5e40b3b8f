"""The loader of ``experiment:``, the parameters that give the pipelines their shape."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from kedro.config import AbstractConfigLoader, OmegaConfigLoader
from kedro.framework.project import settings
from kedro.utils import find_kedro_project

from closer_look.data.cells import BEFORE, RETAIN_ONLY
from closer_look.errors import InputError, quote
from closer_look.evaluation.attacks import ATTACKS, Attack, find_attack
from closer_look.metrics import PLAIN
from closer_look.parameters.attacks import AttackParameters
from closer_look.parameters.experiment import ALL, Experiment, chosen
from closer_look.parameters.groups import GROUPS, NAMED, RUNTIME, as_model

TAKEN_LABELS = (
    *("split", "task_id", "row_id", "question", "reference"),
    *(BEFORE, "retain-only", "questions", "shared", "all"),
)
"""Columns and lines of the tables in which methods have a column or a line each."""

MOST_PAIRS_OF_TASKS = 10**6  # of all methods: a pipeline of them takes 1 GB and 10 s to make

_config_loader: AbstractConfigLoader | None = None


def use(config_loader: AbstractConfigLoader) -> None:
    """Set the configuration (``--env``, ``--params``) from which the experiment is read."""
    global _config_loader  # noqa: PLW0603 - Kedro passes no context to pipeline factories
    _config_loader = config_loader


def load_experiment() -> Experiment:
    """Read and check the experiment.

    Raises:
        InputError: ``experiment:`` is malformed, a group of parameters or a method is unknown, or a
            parameter that becomes part of paths is not a valid name.
    """
    loader = _loader()
    parameters = loader["parameters"]
    _check_names(loader["globals"], parameters)
    known_groups = (*GROUPS, *NAMED, *RUNTIME)
    for name in parameters:
        if name not in known_groups:
            raise InputError(f"unknown parameter '{name}', choose from {', '.join(known_groups)}")
    try:
        experiment = Experiment.model_validate(parameters["experiment"])
    except ValueError as error:
        raise InputError(f"parameter experiment.{error}") from None
    wanted = {
        "downstream": experiment.downstream,
        "retain_only": experiment.retain_only == "pretrained",
    }
    for group, is_wanted in wanted.items():
        if is_wanted and group not in parameters:
            raise InputError(f"parameter {group} is missing, but experiment asks for it")
    methods = _methods("experiment", experiment.methods, parameters)
    experiment = experiment.model_copy(update={"methods": methods})
    if not _fits(experiment):
        n_methods, n_seeds = len(methods), len(experiment.each_seed)
        most = math.isqrt(MOST_PAIRS_OF_TASKS // (n_methods * n_seeds))
        seeds = f" with {n_seeds} seeds" if experiment.seeds else ""
        raise InputError(
            f"parameter experiment.n_tasks: {experiment.n_tasks} tasks of {n_methods} methods"
            f"{seeds} make a graph that takes gigabytes; ask for {most} tasks, or for fewer methods"
            f"{' or seeds' if seeds else ''} at a time"
        )
    experiment = experiment.model_copy(update=_models(experiment, parameters))
    _check_labels(experiment, parameters)
    return experiment


def load_benchmark(experiment: Experiment) -> Experiment | None:
    """Read what the pipeline ``benchmark`` compares.

    Returns:
        The experiment with the methods and seeds of ``benchmark:``; None without these parameters,
        or where they make a graph that takes gigabytes.

    Raises:
        InputError: ``benchmark:`` is malformed, or a method is unknown.
    """
    parameters = _loader()["parameters"]
    if "benchmark" not in parameters:
        return None
    benchmark = as_model("benchmark", parameters["benchmark"])
    methods = _methods("benchmark", benchmark.methods or experiment.methods, parameters)
    compared = experiment.model_copy(update={"methods": methods, "seeds": benchmark.seeds})
    _check_labels(compared, parameters)
    return compared if _fits(compared) else None


def _methods(group: str, names: Collection[str], parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the methods that a group names, and check that all are known."""
    known = [key for key, method in parameters["methods"].items() if "label" in method]
    found = chosen(names, known)
    for method in (*found, *parameters["methods"]):
        if method not in known:
            raise InputError(
                f"parameter {group}.methods: unknown method '{method}', "
                f"choose from {', '.join(sorted(known))}"
            )
    return found


def _fits(experiment: Experiment) -> bool:
    """Whether the graph fits into memory: Kedro keeps, for each task, those before it."""
    n_chains = len(experiment.methods) * len(experiment.each_seed)
    return n_chains * experiment.n_tasks**2 <= MOST_PAIRS_OF_TASKS


def _check_labels(experiment: Experiment, parameters: Mapping[str, Any]) -> None:
    """Check that each label stands for one model: it names columns and lines of tables."""
    taken = dict.fromkeys(TAKEN_LABELS, "the tables of a run")
    elsewhere = (*experiment.models, *experiment.evaluations)
    for group, names in (("methods", experiment.methods), ("models", elsewhere)):
        for name in names:
            settings = parameters[group][name]
            label = settings.get("label", name) if isinstance(settings, Mapping) else name
            if label in taken:
                raise InputError(
                    f"parameter {group}.{name}.label: {quote(label)} is the label of "
                    f"{taken[label]} already; use another one"
                )
            taken[label] = f"{group}.{name}"


def load_methods() -> Mapping[str, Mapping[str, Any]]:
    """Read the parameters of the methods, unchecked."""
    return _loader()["parameters"]["methods"]


def load_attacks(names: Collection[str] | None) -> dict[str, Attack]:
    """Find attacks, and check their parameters.

    Args:
        names: as in ``experiment.stress``; ("all",) for all.

    Returns:
        Attack by name; those of the project in the order of its table, which is that of the report.

    Raises:
        InputError: an attack is unknown, or its parameters are malformed.
    """
    known = _loader()["parameters"].get("attacks") or {}
    attacks = {}
    for name in known if names == ALL else names or ():
        if name not in known:
            raise InputError(
                f"parameter experiment.stress: unknown attack '{name}', "
                f"choose from {', '.join(sorted(known))}, or 'all'"
            )
        if name == PLAIN:
            raise InputError(f"parameter attacks: '{name}' means no attack; use another name")
        try:
            parameters = AttackParameters.model_validate(known[name])
        except ValueError as error:
            raise InputError(f"parameter attacks.{name}.{error}") from None
        try:
            attacks[name] = find_attack(parameters.attack, ATTACKS)
            attacks[name].check(parameters.hyperparameters)
        except ValueError as error:
            raise InputError(f"parameter attacks.{name}: {error}") from None
    in_order = [*ATTACKS.values(), *attacks.values()]
    return dict(sorted(attacks.items(), key=lambda one: in_order.index(one[1])))


def _models(experiment: Experiment, parameters: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the names of the models made elsewhere: those to measure, and those with numbers."""
    known = parameters.get("models") or {}
    for name in known:
        if name in (BEFORE, RETAIN_ONLY, *parameters["methods"]):
            raise InputError(
                f"parameter models: '{name}' is the name of a model of the run; use another one"
            )
    chosen = tuple(known) if experiment.models is None else experiment.models
    for name in chosen:
        if name not in known:
            raise InputError(
                f"parameter experiment.models: there is no '{name}' in models; "
                f"add models.{name}.base_model"
            )
    numbers = tuple(
        name
        for name in chosen
        if "evaluation" in (known[name] or ()) and "base_model" not in known[name]
    )
    models = tuple(name for name in chosen if name not in numbers)
    return {"models": models, "evaluations": numbers}


def _check_names(*sources: Mapping[str, Any]) -> None:
    """Check that names in paths are single words, so that artefacts stay in their folder."""
    for source in sources:
        for parameter in ("run", "forget_split"):
            name = source.get(parameter, "a_name")
            if isinstance(name, bool | int | float):  # 1.10 and 007 have lost their spelling
                raise InputError(
                    f"parameter {parameter}: {name} is a number; use a name that begins with a "
                    f"letter, such as v{name}"
                )
            name = "" if name is None else str(name)
            if not re.fullmatch(r"\w[\w.-]*", name):
                raise InputError(
                    f"parameter {parameter}: {quote(name)} is not a valid name; use letters, "
                    f"digits, '-', '_' and, not at the start, '.'"
                )
        for group in NAMED:
            for name in source.get(group) or ():
                if not re.fullmatch(r"\w+", str(name)):
                    raise InputError(
                        f"parameter {group}: {quote(name)} is not a valid name; use letters, "
                        f"digits and '_'"
                    )


def _loader() -> AbstractConfigLoader:
    # An OmegaConfigLoader is an empty mapping, hence falsy: compare with None.
    return _project_loader() if _config_loader is None else _config_loader


def _project_loader() -> OmegaConfigLoader:
    """Create a loader for commands that have no context, such as ``kedro registry list``."""
    root = find_kedro_project(Path.cwd()) or Path.cwd()
    return OmegaConfigLoader(
        conf_source=str(root / settings.CONF_SOURCE),
        env=os.environ.get("KEDRO_ENV"),
        **settings.CONFIG_LOADER_ARGS,
    )
