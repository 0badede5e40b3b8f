"""Plans: who stands beside whom, and never a row that is to be forgotten."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from closer_look.data.planning import draw_plan, plan_of_task
from closer_look.errors import InputError

REFUSALS = ["I do not know.", "I cannot say.", "No idea."]


@pytest.fixture
def questions(make_questions):
    return make_questions(
        ("forget", 1, 4),
        ("forget", 2, 4),
        ("forget", 3, 4),
        ("retain", 0, 3),
        ("real_authors", 0, 2),
        ("world_facts", 0, 2),
    )


def draw(questions, task_id=1, *, epochs=3, pairing="per_epoch", seed=0, refusals=REFUSALS):
    generator = np.random.default_rng(seed)
    options = {"epochs": epochs, "pairing": pairing, "generator": generator}
    return draw_plan(questions, refusals, task_id, **options)


def pairs(plan, epoch, partner="retain_row_id"):
    """Partner of each forget row in an epoch."""
    rows = plan[plan["epoch"] == epoch]
    return dict(zip(rows["forget_row_id"], rows[partner], strict=True))


@pytest.mark.parametrize("task_id", [1, 2, 3])
@pytest.mark.parametrize("pairing", ["per_epoch", "fixed"])
def test_each_epoch_has_every_row_of_the_task_once(questions, task_id, pairing):
    plan = draw(questions, task_id, pairing=pairing)
    for epoch in (1, 2, 3):
        rows = plan.loc[plan["epoch"] == epoch, "forget_row_id"]
        assert sorted(rows) == [f"forget-{task_id}-{n}" for n in (1, 2, 3, 4)]


def test_epochs_come_in_order(questions):
    assert list(draw(questions)["epoch"]) == [1] * 4 + [2] * 4 + [3] * 4


def test_epochs_are_shuffled_apart(questions):
    plan = draw(questions, epochs=8)
    orders = plan.groupby("epoch")["forget_row_id"].agg(tuple)
    assert orders.nunique() > 1


@pytest.mark.parametrize("partner", ["retain_row_id", "refusal"])
def test_fixed_pairing_keeps_its_partners(questions, partner):
    plan = draw(questions, pairing="fixed")
    assert pairs(plan, 1, partner) == pairs(plan, 2, partner) == pairs(plan, 3, partner)


@pytest.mark.parametrize("partner", ["retain_row_id", "refusal"])
def test_per_epoch_pairing_draws_new_partners(questions, partner):
    plan = draw(questions, epochs=8)
    drawn = {tuple(sorted(pairs(plan, epoch, partner).items())) for epoch in range(1, 9)}
    assert len(drawn) > 1


@pytest.mark.parametrize(
    ("task_id", "pool"),
    [
        (1, {"forget-2", "forget-3", "retain-0"}),
        (2, {"forget-3", "retain-0"}),
        (3, {"retain-0"}),
    ],
)
def test_partners_are_retain_rows_and_tasks_not_yet_unlearned(questions, task_id, pool):
    plan = draw(questions, task_id, epochs=30)
    assert {row_id.rpartition("-")[0] for row_id in plan["retain_row_id"]} == pool


def test_neighbours_are_never_trained(make_questions):
    questions = make_questions(("forget", 1, 2), ("retain", 0, 1), ("neighbour", 0, 2))
    assert set(draw(questions)["retain_row_id"]) == {"retain-0-1"}


def test_no_partner_comes_again_before_every_other_has_come(make_questions):
    questions = make_questions(("forget", 1, 8), ("retain", 0, 3))
    partners = draw(questions, epochs=1)["retain_row_id"]
    assert sorted(Counter(partners).values()) == [2, 3, 3]


def test_no_partner_comes_twice_where_there_are_enough(make_questions):
    questions = make_questions(("forget", 1, 8), ("retain", 0, 9))
    assert draw(questions, epochs=1)["retain_row_id"].is_unique


def test_refusals_are_all_used_before_any_comes_again(questions):
    counts = Counter(draw(questions, epochs=1)["refusal"])
    assert sorted(counts.values()) == [1, 1, 2]


def test_same_seed_draws_the_same_plan(questions):
    pd.testing.assert_frame_equal(draw(questions, seed=5), draw(questions, seed=5))


def test_another_seed_draws_another_plan(questions):
    assert not draw(questions, seed=5).equals(draw(questions, seed=6))


def test_task_without_anything_to_retain_is_refused(make_questions):
    with pytest.raises(InputError, match="task 1: there is no row to retain"):
        draw(make_questions(("forget", 1, 2), ("world_facts", 0, 2)))


def test_last_task_of_forget_rows_alone_is_refused(make_questions):
    questions = make_questions(("forget", 1, 2), ("forget", 2, 2))
    assert len(draw(questions, 1)) == 6
    with pytest.raises(InputError, match="task 2: there is no row to retain"):
        draw(questions, 2)


def test_the_first_epoch_of_a_task_does_not_depend_on_how_many_follow(make_questions):
    questions = make_questions(("forget", 1, 4), ("retain", 0, 6))
    given = (questions, ["No.", "I cannot say."], 1)
    one, three = (plan_of_task(*given, epochs=n, pairing="per_epoch", seed=7) for n in (1, 3))
    pd.testing.assert_frame_equal(one, three.head(4))
    assert len(three) == 12
