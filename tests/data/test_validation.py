"""Validation rows: a share of each set and task, even over subjects, and something is left."""

import pytest

from closer_look.data.validation import check_tasks, draw_validation
from closer_look.errors import InputError


@pytest.fixture
def evaluation(make_questions):
    rows = make_questions(("forget", 1, 12), ("forget", 2, 8), ("retain", 0, 20))
    return rows.assign(subject=["AAABBBCCCDDD"[n % 12] for n in range(len(rows))])


def test_a_share_of_each_set_and_task_is_drawn(evaluation):
    drawn = draw_validation(evaluation, 0.25, seed=1)
    counts = drawn.groupby(["split", "task_id"]).size().to_dict()
    assert counts == {("forget", 1): 3, ("forget", 2): 2, ("retain", 0): 5}
    assert list(drawn["row_id"]) == [
        row for row in evaluation["row_id"] if row in set(drawn["row_id"])
    ]


def test_subjects_share_the_rows_evenly(evaluation):
    drawn = draw_validation(evaluation, 0.5, seed=1)
    first = drawn[drawn["task_id"] == 1]
    assert sorted(first["subject"].value_counts()) == [1, 1, 2, 2]


def test_rows_of_a_task_depend_on_the_seed_and_on_no_other_task(evaluation):
    drawn, other = (draw_validation(evaluation, 0.25, seed) for seed in (1, 2))
    assert list(drawn["row_id"]) != list(other["row_id"])
    alone = draw_validation(evaluation[evaluation["task_id"] != 1], 0.25, seed=1)
    assert list(alone["row_id"]) == list(drawn.loc[drawn["task_id"] != 1, "row_id"])


def test_rows_without_a_subject_are_drawn_too(make_questions):
    drawn = draw_validation(make_questions(("forget", 1, 4), ("retain", 0, 4)), 0.25, seed=1)
    assert len(drawn) == 2


def test_something_must_be_left_to_report(make_questions):
    rows = make_questions(("forget", 1, 4), ("retain", 0, 1))
    with pytest.raises(InputError, match=r"tuning.validation_share: 0.25 takes 1 of 1 rows of spl"):
        draw_validation(rows, 0.25, seed=1)
    with pytest.raises(InputError, match=r"0.9 takes 4 of 4 rows of task 1 and leaves none"):
        draw_validation(make_questions(("forget", 1, 4), ("retain", 0, 20)), 0.9, seed=1)
    with pytest.raises(InputError, match=r"0.25 takes 1 of 2 rows of task 1 and leaves 1 to repo"):
        draw_validation(make_questions(("forget", 1, 2), ("retain", 0, 20)), 0.25, seed=1)


@pytest.mark.parametrize("split", ["forget", "retain"])
def test_one_side_alone_cannot_be_weighed(make_questions, split):
    with pytest.raises(InputError, match=r"forget_set.evaluated_splits: tuning weighs"):
        draw_validation(make_questions((split, int(split == "forget"), 8)), 0.25, seed=1)


def test_trials_of_more_tasks_than_there_are_are_refused():
    check_tasks(2, 2)
    with pytest.raises(InputError, match=r"tuning.n_tasks: 3 tasks are asked for, the run has 2"):
        check_tasks(3, 2)
