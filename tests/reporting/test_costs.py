"""Time and memory of a run, from the costs of its nodes."""

import numpy as np
import pandas as pd
import pytest

from closer_look.reporting.costs import costs_table, machines

LABELS = {"me_gd": "ME+GD"}


@pytest.fixture
def summary():
    """The cells of two tasks."""
    cells = [("before", 0), ("me_gd", 1), ("me_gd", 2)]
    return pd.DataFrame(cells, columns=["method", "after_task"])


@pytest.fixture
def with_retain_only(summary):
    return pd.concat([summary, summary.head(1).assign(method="retain_only")])


@pytest.fixture
def costs():
    rows = [
        ("finetune", "finetuning", 60.0, 3e9),
        ("finetune_retain_only", "finetuning", 99.0, 9e9),  # of a run that had such a model
        ("continual.before.score_answers", "generation", 2.0, 1e9),
        ("continual.me_gd.task_01.unlearn", "unlearning", 5.0, 2e9),
        ("continual.me_gd.task_02.unlearn", "unlearning", 6.0, 4e9),
        ("continual.me_gd.task_02.score_answers", "generation", 1.0, 1e9),
        ("continual.me_gd.task_03.unlearn", "unlearning", 99.0, 9e9),  # of a longer chain
        ("continual.ga_gd.task_01.unlearn", "unlearning", 99.0, 9e9),  # of another method
        ("continual.plot_curves", "reporting", 0.5, 1e9),
        ("continual.me_gd.stack_logs", "reporting", 0.25, 1e9),
    ]
    columns = ["node", "stage", "seconds", "peak_memory"]
    return pd.DataFrame(rows, columns=columns).assign(peak_gpu_memory=np.nan)


def test_are_summed_by_stage_over_the_tasks_of_a_method(costs, summary):
    table = costs_table(costs, summary, LABELS).set_index("what")
    assert list(table.index) == ["shared", "ME+GD", "all"]
    assert table["Unlearning"].tolist()[1:] == [11.0, 11.0]
    assert table["Answers"].tolist() == [2.0, 1.0, 3.0]
    assert table["seconds"].tolist() == [62.5, 12.25, 74.75]
    assert table["peak_memory"].tolist() == [3e9, 4e9, 4e9]


def test_a_retain_only_model_of_the_run_is_shared(costs, with_retain_only):
    table = costs_table(costs, with_retain_only, LABELS).set_index("what")
    assert table["Fine-tuning"]["shared"] == 159.0


def test_stages_stand_in_the_order_of_a_run_and_only_those_that_ran(costs, summary):
    table = costs_table(costs, summary, LABELS)
    stages = ["Fine-tuning", "Unlearning", "Answers", "Tables, figures"]
    assert list(table.columns[1:-3]) == stages


def test_a_machine_is_listed_once_though_its_gpu_was_used_later():
    found = ["2 cores", "2 cores", "8 cores"]
    costs = pd.DataFrame({"machine": found, "gpus": [None, "1 x A", None]})
    assert machines(costs) == ["2 cores, 1 x A", "8 cores"]
    assert machines(costs.head(0)) == []


def test_seeds_of_an_earlier_run_cost_nothing(summary):
    made = summary[summary["method"] == "me_gd"]
    seeded = pd.concat([summary.head(1), made.assign(seed=1001), made.assign(seed=1002)])
    nodes = [
        "continual.me_gd.seed_1001.task_02.unlearn",
        "continual.me_gd.seed_1002.task_02.unlearn",
        "continual.me_gd.seed_1002.sample_alternates",
        "continual.me_gd.stack_logs",
        "continual.me_gd.seed_1003.task_02.unlearn",  # of more seeds
        "continual.me_gd.task_02.unlearn",  # of none
    ]
    costs = pd.DataFrame({"node": nodes, "stage": "unlearning", "seconds": 1.0})
    costs = costs.assign(peak_memory=1e9, peak_gpu_memory=np.nan)
    table = costs_table(costs, seeded.astype({"seed": "Int64"}), LABELS).set_index("what")
    assert table["seconds"]["ME+GD"] == 4.0
