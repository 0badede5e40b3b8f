"""A study: the same trials whether it was interrupted or not, and the best is chosen as said."""

import logging
import os

import pytest

from closer_look.errors import InputError
from closer_look.evaluation import study
from closer_look.evaluation.study import Outcome, open_study, run_study
from closer_look.parameters.space import Dimension
from closer_look.parameters.tuning import TuningParameters

SPACE = {
    "learning_rate": Dimension(low=0.01, high=1.0, log=True),
    "epochs": Dimension(low=2, high=8),
    "kind": Dimension(choices=("a", "b")),
}
OWN = {"learning_rate": 0.1, "epochs": 5, "kind": "b"}


def settings(**changes):
    space = {"epochs": {"low": 1, "high": 2}}
    return TuningParameters.model_validate({"trials": 8, "seed": 1, "space": space} | changes)


def run(folder, attempt, tuning=None, least=0.5):
    return run_study(folder, SPACE, OWN, attempt, least, tuning or settings(), "NPO")


def kept_or_forgotten(values, look):
    """The higher the rate, the less is kept, and the more forgotten."""
    return Outcome(1 - values["learning_rate"], values["learning_rate"])


def settings_of(table):
    return table[[*SPACE]].to_dict("records")


def test_first_trial_takes_the_methods_own_settings(tmp_path):
    _, table = run(tmp_path, kept_or_forgotten)
    assert settings_of(table)[0] == OWN
    assert list(table["trial"]) == list(range(8))
    assert table["learning_rate"].between(0.01, 1).all()
    assert set(table["epochs"]) <= set(range(2, 9))
    assert set(table["kind"]) == {"a", "b"}


def test_best_is_what_forgets_most_and_keeps_enough(tmp_path):
    best, table = run(tmp_path, kept_or_forgotten)
    enough = table[table["model_utility"] >= 0.5]
    assert best["learning_rate"] == enough["learning_rate"].max() < table["learning_rate"].max()
    assert table.loc[table["is_best"], "learning_rate"].item() == best["learning_rate"]
    assert (table["is_feasible"] == (table["model_utility"] >= 0.5)).all()
    assert (table["least_utility"] == 0.5).all()


def test_harmonic_mean_weighs_both_and_bounds_none(tmp_path):
    best, table = run(tmp_path, kept_or_forgotten, settings(objective="harmonic_mean"), least=0.99)
    nearest = (table["learning_rate"] - 0.5).abs().idxmin()
    assert best["learning_rate"] == table.loc[nearest, "learning_rate"]
    assert table["is_feasible"].all()
    assert table["least_utility"].isna().all()


def test_if_no_trial_keeps_enough_the_one_that_keeps_most_is_taken_and_it_is_said(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        best, table = run(tmp_path, kept_or_forgotten, least=2)
    assert best["learning_rate"] == table["learning_rate"].min()
    assert "no trial keeps a Model Utility of 2.000" in caplog.text


@pytest.mark.parametrize("killed_in", [0, 1, 5])
def test_interrupted_study_makes_the_trials_of_one_that_was_not(tmp_path, killed_in):
    calls = []

    def killed(values, look):
        calls.append(values)
        try:
            look(0, values["learning_rate"])
        finally:
            if len(calls) == killed_in + 1:
                raise KeyboardInterrupt
        return kept_or_forgotten(values, look)

    (tmp_path / "whole").mkdir()
    (tmp_path / "killed").mkdir()
    best, table = run(tmp_path / "whole", with_halfway)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "killed", killed)
    resumed, again = run(tmp_path / "killed", killed)
    assert (resumed, settings_of(again)) == (best, settings_of(table))
    assert list(again["state"]) == list(table["state"])
    assert len(calls) == 8 + 1  # the trial that was killed is made twice


def with_halfway(values, look):
    look(0, values["learning_rate"])
    return kept_or_forgotten(values, look)


def test_larger_budget_goes_on_where_a_smaller_one_ended(tmp_path):
    _, small = run(tmp_path, kept_or_forgotten, settings(trials=3))
    calls = []
    _, large = run(tmp_path, lambda *given: calls.append(given) or kept_or_forgotten(*given))
    assert settings_of(large)[:3] == settings_of(small)
    assert len(calls) == 5
    _, small_again = run(tmp_path, kept_or_forgotten, settings(trials=3))
    assert settings_of(small_again) == settings_of(small)


def test_trial_that_diverges_counts_as_failed_and_the_study_goes_on(tmp_path):
    def diverging(values, look):
        if values["learning_rate"] > 0.2:
            raise InputError("loss is nan")
        return kept_or_forgotten(values, look)

    best, table = run(tmp_path, diverging)
    failed = table[table["learning_rate"] > 0.2]
    assert len(table) == 8 > len(failed) > 0
    assert set(failed["state"]) == {"failed"}
    assert set(failed["reason"]) == {"loss is nan"}
    assert best["learning_rate"] <= 0.2


def test_if_all_trials_fail_the_last_reason_is_said(tmp_path):
    def diverging(values, look):
        raise InputError("loss is nan")

    with pytest.raises(InputError, match="NPO: all 3 trials have failed, the last with: loss is n"):
        run(tmp_path, diverging, settings(trials=3))


def test_trial_that_does_worse_than_most_halfway_is_given_up(tmp_path):
    n_complete = []

    def attempt(values, look):
        look(0, 0.0 if len(n_complete) >= study.N_RANDOM else 1.0)
        n_complete.append(values)
        return kept_or_forgotten(values, look)

    _, table = run(tmp_path, attempt)
    assert list(table["state"]) == ["complete"] * study.N_RANDOM + ["pruned"] * 4
    assert table.loc[study.N_RANDOM :, "objective"].isna().all()


def test_trial_that_collapses_later_is_given_up_however_well_it_began(tmp_path):
    made = []

    def attempt(values, look):
        made.append(values)
        look(0, 0.9 if len(made) == 5 else 0.1 * len(made))
        look(1, -0.5 if len(made) == 5 else 0.1)
        return kept_or_forgotten(values, look)

    _, table = run(tmp_path, attempt, settings(trials=6))
    assert list(table["state"]) == ["complete"] * 4 + ["pruned", "complete"]


def test_what_was_given_up_is_further_from_feasible_than_all_that_was_completed(tmp_path):
    made = []

    def attempt(values, look):
        made.append(values)
        look(0, -0.9 if len(made) == 5 else -0.2)
        return kept_or_forgotten(values, look)

    _, table = run(tmp_path, attempt, settings(trials=6), least=2)
    assert list(table["state"]) == ["complete"] * 4 + ["pruned", "complete"]
    missed = [sum(one.constraints.values()) for one in open_study(tmp_path).trials]
    assert missed[4] > max(missed[:4] + missed[5:]) > 0


def test_line_of_the_journal_that_was_cut_off_is_lost_alone(tmp_path):
    whole, table = run(tmp_path, kept_or_forgotten, settings(trials=3))
    journal = tmp_path / study.JOURNAL
    os.truncate(journal, journal.stat().st_size - 5)
    for _ in range(2):
        again, trials = run(tmp_path, kept_or_forgotten, settings(trials=3))
        assert (again, settings_of(trials)) == (whole, settings_of(table))


def test_front_is_what_no_other_trial_beats(tmp_path):
    reached = iter([(0.5, 0.5), (0.9, 0.1), (0.5, 0.4), (0.4, 0.5), (0.1, 0.9), (0.5, 0.5)])
    _, table = run(tmp_path, lambda *_: Outcome(*next(reached)), settings(trials=6))
    assert list(table["is_on_front"]) == [True, True, False, False, True, False]


def test_without_optuna_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setattr(study.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'closer-look\[tuning\]'"):
        study.check_optuna()
