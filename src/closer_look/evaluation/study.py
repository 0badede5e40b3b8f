"""A study: trials of settings from a search space, drawn by Optuna and kept in a file.

A trial that was killed is taken up again with the settings that it had, and each trial has a seed
of its own. So a study that was interrupted makes the same trials as one that was not.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import harmonic_mean
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd

from closer_look.errors import InputError
from closer_look.parameters.space import shown

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

    from closer_look.parameters.space import Dimension, Value
    from closer_look.parameters.tuning import TuningParameters

JOURNAL = "journal.log"
N_RANDOM = 4
"""Complete trials after which those that follow learn from those before, and may be given up."""

log = logging.getLogger(__name__)


class Outcome(NamedTuple):
    """What a trial has reached."""

    model_utility: float
    forget_efficacy: float


Look = Callable[[int, float], None]
"""Takes a step (0, 1, ...) and how well a trial does there; ends it with an error if most of the
others did better at this step."""
Attempt = Callable[[Mapping[str, "Value"], Look], Outcome]
"""Tries values; raises ``InputError`` if they do not work."""


def run_study(
    folder: Path,
    space: Mapping[str, Dimension],
    own: Mapping[str, Value],
    attempt: Attempt,
    least_utility: float,
    tuning: TuningParameters,
    label: str,
) -> tuple[dict[str, Value], pd.DataFrame]:
    """Make the trials of a study that are still to be made.

    Args:
        folder: of this study alone.
        space: name of a parameter -> values to try.
        own: the values of the first trial.
        attempt: makes a trial.
        least_utility: Model Utility below which the objective "forget_efficacy" takes no trial.
        tuning: number of trials, objective and seed.
        label: name of the method, for the log.

    Returns:
        The values of the best trial: the first with the highest objective among those that are
        feasible; if none is, that with the highest Model Utility. And a line a trial: ``trial``
        (from 0), ``state`` (complete, pruned, failed), ``reason`` of a failure, ``model_utility``,
        ``forget_efficacy``, ``objective``, ``is_feasible`` (keeps ``least_utility``), ``is_best``,
        ``is_on_front`` (no other trial keeps and forgets more), ``least_utility`` (NaN with an
        objective that has no such bound) and a column for each parameter.

    Raises:
        InputError: all trials have failed.
    """
    study = open_study(folder)
    while (trial := _next_trial(study, own, tuning)) is not None:
        _make(trial, study, space, attempt, least_utility, tuning)
        _report(study.trials[trial.number], tuning, label)
    table = trials_table(study.trials[: tuning.trials], space)
    if not (table["state"] == "complete").any():
        raise InputError(
            f"tuning of {label}: all {len(table)} trials have failed, the last with: "
            f"{table['reason'].iloc[-1]}"
        )
    best = _best(table)
    if not table.loc[best, "is_feasible"]:
        log.warning(
            "Tuning of %s: no trial keeps a Model Utility of %.3f; the one with the highest, %.3f, "
            "is taken",
            *(label, least_utility, table.loc[best, "model_utility"]),
        )
    bound = least_utility if tuning.objective == "forget_efficacy" else np.nan
    table = table.assign(
        is_best=table.index == best, is_on_front=_on_front(table), least_utility=bound
    )
    return study.trials[best].params, table


def check_optuna() -> None:
    """Check that Optuna is there.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("optuna") is None:
        raise InputError(
            "tuning needs Optuna: pip install 'closer-look[tuning]', or run another pipeline"
        )


def open_study(folder: Path) -> Study:
    """Open the study in a folder, or begin it."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder / JOURNAL
    if journal.exists():  # what follows would be written behind a line that was cut off
        os.truncate(journal, journal.read_bytes().rfind(b"\n") + 1)
    return optuna.create_study(
        storage=optuna.storages.JournalStorage(JournalFileBackend(str(journal))),
        study_name="tuning",
        direction="maximize",
        load_if_exists=True,
    )


def _next_trial(study: Study, own: Mapping[str, Value], tuning: TuningParameters) -> Trial | None:
    """Return the trial that was interrupted, or a new one, if the budget has one left."""
    from optuna.samplers import TPESampler
    from optuna.trial import Trial, TrialState

    number = sum(one.state.is_finished() for one in study.trials)
    if number >= tuning.trials:
        return None
    (seed,) = np.random.SeedSequence([tuning.seed, number]).generate_state(1)
    study.sampler = TPESampler(seed=int(seed), n_startup_trials=N_RANDOM)
    for interrupted in study.get_trials(states=[TrialState.RUNNING]):
        return Trial(study, interrupted._trial_id)
    if number == 0:
        study.enqueue_trial(dict(own), skip_if_exists=True)
    return study.ask()


def _make(
    trial: Trial,
    study: Study,
    space: Mapping[str, Dimension],
    attempt: Attempt,
    least_utility: float,
    tuning: TuningParameters,
) -> None:
    from optuna import TrialPruned
    from optuna.trial import TrialState

    def constrain(name: str, value: float) -> None:
        if name not in study.trials[trial.number].constraints:  # of a trial taken up again
            trial.set_constraint(name, value)

    def look(step: int, value: float) -> None:
        if step not in study.trials[trial.number].intermediate_values:
            trial.report(value, step)
        # Optuna's pruners take the best of all looks so far, which shields what collapses later.
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        others = [one.intermediate_values.get(step, np.nan) for one in complete]
        if len(complete) >= N_RANDOM and value < np.nanmedian(others):
            # Optuna learns from what is feasible first: let this come after all complete trials.
            constrain("given_up", 2 - value)
            raise TrialPruned

    values = {name: _suggest(trial, name, dimension) for name, dimension in space.items()}
    try:
        outcome = attempt(values, look)
    except TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except InputError as error:
        trial.set_user_attr("reason", error.message)
        study.tell(trial, state=TrialState.FAIL)
    else:
        for name, value in outcome._asdict().items():
            trial.set_user_attr(name, value)
        if tuning.objective == "forget_efficacy":
            constrain("model_utility", least_utility - outcome.model_utility)
            study.tell(trial, outcome.forget_efficacy)
        else:
            study.tell(trial, harmonic_mean(outcome))


def _suggest(trial: Trial, name: str, dimension: Dimension) -> Value:
    if dimension.choices:
        return trial.suggest_categorical(name, dimension.choices)
    suggest = trial.suggest_int if dimension.is_whole else trial.suggest_float
    return suggest(name, dimension.low, dimension.high, log=dimension.log)


def _report(trial: FrozenTrial, tuning: TuningParameters, label: str) -> None:
    tried = ", ".join(f"{name} {shown(value)}" for name, value in trial.params.items())
    attributes = trial.user_attrs
    reached = attributes.get("reason", "given up early")
    if "model_utility" in attributes:
        reached = "MU {model_utility:.3f}, FE {forget_efficacy:.3f}".format(**attributes)
    log.info(
        "Tuning of %s: trial %d of %d, %s: %s",
        *(label, trial.number + 1, tuning.trials, tried, reached),
    )


def trials_table(trials: list[FrozenTrial], space: Mapping[str, Dimension]) -> pd.DataFrame:
    """List trials as ``run_study`` does, without the best."""
    from optuna.trial import TrialState

    names = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}
    lines = [
        {
            "trial": one.number,
            "state": names.get(one.state, "failed"),
            "reason": one.user_attrs.get("reason", ""),
            "model_utility": one.user_attrs.get("model_utility", np.nan),
            "forget_efficacy": one.user_attrs.get("forget_efficacy", np.nan),
            "objective": one.value if one.state == TrialState.COMPLETE else np.nan,
            "is_feasible": one.state == TrialState.COMPLETE
            and all(value <= 0 for value in one.constraints.values()),
        }
        | {name: one.params[name] for name in space}
        for one in trials
    ]
    return pd.DataFrame(lines)


def _best(table: pd.DataFrame) -> int:
    feasible = table[table["is_feasible"]]
    return table["model_utility"].idxmax() if feasible.empty else feasible["objective"].idxmax()


def _on_front(table: pd.DataFrame) -> pd.Series:
    """Tell which trials no other one beats in one of both values without losing in the other."""
    complete = table[table["state"] == "complete"]
    order = complete.sort_values(["forget_efficacy", "model_utility"], ascending=False)
    best_before = order["model_utility"].cummax().shift(fill_value=-np.inf)
    return (order["model_utility"] > best_before).reindex(table.index, fill_value=False)
