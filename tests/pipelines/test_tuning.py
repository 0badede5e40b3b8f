"""The tuning stage: what is left to report, and a whole run of it."""

import pytest

from closer_look.errors import InputError
from closer_look.parameters.training import UnlearningParameters
from closer_look.parameters.tuning import TuningParameters
from closer_look.pipelines.tuning.nodes import draw_validation, list_spaces

SPACE = {"epochs": {"low": 2, "high": 8}}
ME_GD = {"label": "ME+GD", "forget": {"loss": "maximum_entropy"}}
GUARD = {"label": "Prompt guard", "instruction": "Do not speak of {subjects}."}


@pytest.fixture
def evaluation(make_questions):
    return make_questions(("forget", 1, 8), ("forget", 2, 8), ("retain", 0, 8))


def drawn(evaluation, **changes):
    tuning = TuningParameters.model_validate({"seed": 1, "space": SPACE} | changes)
    return draw_validation(evaluation, tuning)


def test_rows_that_choose_settings_are_not_reported(evaluation):
    validation, first, both = drawn(evaluation)
    assert len(validation) == 6
    assert set(validation["row_id"]) | set(both["row_id"]) == set(evaluation["row_id"])
    assert not set(validation["row_id"]) & set(both["row_id"])
    assert list(first["row_id"]) == list(both.loc[both["task_id"] <= 1, "row_id"])


def test_rows_are_reported_after_each_task_of_the_scenario(evaluation):
    """``real_world`` has one task, however many the run asks for."""
    validation, reported = drawn(evaluation[evaluation["task_id"] <= 1])
    assert set(validation["task_id"]) == set(reported["task_id"]) == {0, 1}


def test_trials_take_no_more_tasks_than_the_run(evaluation):
    with pytest.raises(InputError, match=r"tuning\.n_tasks"):
        drawn(evaluation, n_tasks=3)


def listed_spaces(questions, **methods):
    unlearning = UnlearningParameters(learning_rate=1e-3, epochs=5, batch_size=4, seed=1)
    tuning = TuningParameters.model_validate({"seed": 1, "space": SPACE})
    return list_spaces(questions, tuning, unlearning, **methods)


def test_methods_that_train_nothing_have_no_space(evaluation):
    spaces = listed_spaces(evaluation.assign(subject="Ada"), me_gd=ME_GD, prompt_guard=GUARD)
    assert set(spaces["method"]) == {"me_gd"}


def test_an_instruction_that_no_row_fits_is_refused_before_anything_is_trained(evaluation):
    nameless = evaluation.assign(subject=None)
    with pytest.raises(InputError, match=r"methods\.prompt_guard: row 'forget-1-1': it names no"):
        listed_spaces(nameless, me_gd=ME_GD, prompt_guard=GUARD)
