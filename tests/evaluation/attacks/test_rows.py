"""The rows that are attacked are drawn evenly over the tasks."""

import pytest

from closer_look.errors import InputError
from closer_look.evaluation.attacks.rows import draw_rows


def test_rows_come_evenly_from_all_tasks_in_their_order(make_questions):
    questions = make_questions(
        ("forget", 1, 9), ("forget", 2, 9), ("forget", 3, 2), ("retain", 0, 9)
    )
    drawn = draw_rows(questions, 8, seed=1)
    assert drawn["task_id"].value_counts().to_dict() == {1: 3, 2: 3, 3: 2}
    assert set(drawn["split"]) == {"forget"}
    assert drawn["row_id"].tolist() == [r for r in questions["row_id"] if r in set(drawn["row_id"])]


def test_more_rows_are_further_rows(make_questions):
    questions = make_questions(("forget", 1, 20), ("forget", 2, 20))
    few, many = (set(draw_rows(questions, n, seed=1)["row_id"]) for n in (6, 15))
    assert few < many
    assert few != set(draw_rows(questions, 6, seed=2)["row_id"])


def test_a_short_set_is_attacked_as_a_whole(make_questions):
    assert len(draw_rows(make_questions(("forget", 1, 3)), 40, seed=1)) == 3


def test_without_rows_to_forget_there_is_no_attack(make_questions):
    with pytest.raises(InputError, match=r"forget_set\.evaluated_splits: attacks are made on rows"):
        draw_rows(make_questions(("retain", 0, 3)), 40, seed=1)
