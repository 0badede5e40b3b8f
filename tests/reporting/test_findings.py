"""What a reader must not miss: nothing forgotten, or too much lost."""

import pandas as pd
import pytest

from closer_look.reporting.findings import describe_failures, describe_versions

LABELS = {"npo_gd": "NPO+GD", "me_gd": "ME+GD"}


def summary(*lines):
    columns = ["method", "after_task", "metric", "task_id", "value", "ci_low"]
    return pd.DataFrame(lines, columns=columns)


BEFORE = [
    ("before", 0, "model_utility", 0, 0.8, 0.7),
    ("before", 0, "forget_efficacy", 1, 0.2, 0.1),
    ("before", 0, "forget_efficacy", 2, 0.3, 0.2),
]


def test_nothing_is_said_of_a_method_that_forgot_and_kept():
    after = [
        ("me_gd", 1, "model_utility", 0, 0.65, 0.6),
        ("me_gd", 1, "forget_efficacy", 1, 0.9, 0.8),
    ]
    assert describe_failures(summary(*BEFORE, *after), LABELS) == []


def test_a_task_that_stays_within_its_interval_was_not_forgotten():
    after = [
        ("npo_gd", 1, "forget_efficacy", 1, 0.25, 0.15),  # .2 is within it
        ("npo_gd", 2, "forget_efficacy", 1, 0.9, 0.8),
        ("npo_gd", 2, "forget_efficacy", 2, 0.9, 0.8),
    ]
    (said,) = describe_failures(summary(*BEFORE, *after), LABELS)
    assert said.startswith("NPO+GD forgot nothing of task 1: forget efficacy is 0.250, and was 0.2")


def test_every_task_of_a_model_made_elsewhere_counts():
    after = [("theirs", 2, "forget_efficacy", task, 0.31, 0.19) for task in (1, 2)]
    (said,) = describe_failures(summary(*BEFORE, *after), {"theirs": "Theirs"})
    assert "Theirs forgot nothing of task 1 and 2" in said


def test_a_loss_of_more_than_a_fifth_is_said_once():
    after = [("me_gd", task, "model_utility", 0, 0.7 - 0.1 * task, 0) for task in (1, 2, 3)]
    (said,) = describe_failures(summary(*BEFORE, *after), LABELS)
    assert said == (
        "ME+GD lost more than a fifth of model utility by task 1: 0.600, from 0.800 before"
    )


@pytest.mark.parametrize("lines", [BEFORE[:0], BEFORE])
def test_what_was_not_measured_is_not_compared(lines):
    after = [
        ("me_gd", 1, "model_utility", 0, float("nan"), 0),
        ("me_gd", 1, "forget_efficacy", 3, 0.1, 0),
    ]
    assert describe_failures(summary(*lines, *after), LABELS) == []


def test_versions_that_changed_within_a_run_are_named():
    costs = [{"torch": "2.1", "peft": "0.1"}, {"torch": "2.2", "peft": "0.1"}, None]
    assert describe_versions(pd.DataFrame({"libraries": costs})) == [
        "Not all results were made by the same versions: torch 2.1 and 2.2"
    ]
    assert describe_versions(pd.DataFrame({"libraries": costs[1:]})) == []
