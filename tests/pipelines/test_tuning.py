"""The tuning stage: what is left to report, and a whole run of it."""

import pytest

from closer_look.errors import InputError
from closer_look.parameters.experiment import Experiment
from closer_look.parameters.tuning import TuningParameters
from closer_look.pipelines.tuning.nodes import draw_validation

SPACE = {"epochs": {"low": 2, "high": 8}}


@pytest.fixture
def evaluation(make_questions):
    return make_questions(("forget", 1, 8), ("forget", 2, 8), ("retain", 0, 8))


def drawn(evaluation, **changes):
    experiment = Experiment(methods=("x",), n_tasks=2, splits=("forget", "retain"))
    tuning = TuningParameters.model_validate({"seed": 1, "space": SPACE} | changes)
    return draw_validation(evaluation, experiment, tuning)


def test_rows_that_choose_settings_are_not_reported(evaluation):
    validation, first, both = drawn(evaluation)
    assert len(validation) == 6
    assert set(validation["row_id"]) | set(both["row_id"]) == set(evaluation["row_id"])
    assert not set(validation["row_id"]) & set(both["row_id"])
    assert list(first["row_id"]) == list(both.loc[both["task_id"] <= 1, "row_id"])


def test_trials_take_no_more_tasks_than_the_run(evaluation):
    with pytest.raises(InputError, match=r"tuning\.n_tasks"):
        drawn(evaluation, n_tasks=3)
