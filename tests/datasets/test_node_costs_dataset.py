"""Costs of nodes: lines that only grow, of which the newest of each node counts."""

import pytest

from closer_look.datasets.node_costs_dataset import COLUMNS, NodeCostsDataset


def line(node, seconds):
    return dict.fromkeys(COLUMNS) | {"node": node, "seconds": seconds, "machine": "2 cores"}


@pytest.fixture
def dataset(tmp_path):
    def dataset(scenario=None):
        return NodeCostsDataset(filepath=str(tmp_path / "run" / "costs.jsonl"), scenario=scenario)

    return dataset


def test_what_was_never_written_is_empty(dataset):
    assert not dataset().exists()
    costs = dataset("continual").load()
    assert len(costs) == 0
    assert tuple(costs.columns) == COLUMNS


def test_the_newest_line_of_a_node_counts(dataset):
    for seconds in (1, 2):
        dataset().save(line("finetune", seconds))
        dataset().save(line("continual.report", 9))
    assert dataset().exists()
    assert dataset().load()["seconds"].tolist() == [2, 9]


def test_a_scenario_sees_its_own_nodes_and_those_that_all_share(dataset):
    for node in ("finetune", "continual.me_gd.task_01.unlearn", "continual_2.stack"):
        dataset().save(line(node, 1))
    assert dataset("continual").load()["node"].tolist() == [
        "finetune",
        "continual.me_gd.task_01.unlearn",
    ]


def test_preview_shows_times(dataset):
    dataset().save(line("finetune", 1.5))
    preview = dataset().preview()
    assert preview["columns"] == list(COLUMNS[:-3])
    assert preview["data"][0][3] == 1.5
