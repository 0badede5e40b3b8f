"""The log of a run: which node starts, and what each has cost."""

import logging
import re
import time

import pandas as pd
import pytest
from kedro.framework.hooks.manager import _create_hook_manager
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from closer_look.datasets.node_costs_dataset import NodeCostsDataset
from closer_look.project.runner import DepthFirstRunner
from closer_look.system.costs import SAMPLED_EVERY


def hold_memory(one):
    held = b"x" * 200_000_000
    time.sleep(4 * SAMPLED_EVERY)
    return one if held else None


def two_nodes(second=lambda one: one):
    first = Node(lambda: (1, 2), None, ["one", "two"], name="first", tags=["finetuning", "me_gd"])
    return Pipeline([first, Node(second, "one", "three", name="second")])


PIPELINE = two_nodes()


@pytest.fixture
def run(tmp_path):
    """Run a pipeline of two nodes, and return what their costs were."""

    def run(pipeline=PIPELINE, **kept):
        costs = NodeCostsDataset(filepath=str(tmp_path / "costs.jsonl"))
        catalog = DataCatalog({"node_costs": costs} | kept)
        only_missing = bool(kept)
        DepthFirstRunner().run(
            pipeline, catalog, _create_hook_manager(), only_missing_outputs=only_missing
        )
        return costs.load().set_index("node")

    return run


def test_counts_the_nodes(run, caplog):
    with caplog.at_level(logging.INFO, logger="closer_look.project.node_log"):
        run()
        run()
    assert [record.getMessage() for record in caplog.records] == ["[1/2] first", "[2/2] second"] * 2


def test_counts_no_node_whose_output_is_there(run, caplog, tmp_path):
    from kedro_datasets.json import JSONDataset

    kept = {name: JSONDataset(filepath=str(tmp_path / name)) for name in ("one", "two", "three")}
    for name in ("one", "two"):
        kept[name].save(1)
    with caplog.at_level(logging.INFO, logger="closer_look.project.node_log"):
        run(**kept)
    assert [record.getMessage() for record in caplog.records] == ["[1/1] second"]


def test_records_time_memory_and_stage_of_each_node(run):
    costs = run(two_nodes(hold_memory))
    assert list(costs.index) == ["first", "second"]
    assert costs["stage"]["first"] == "finetuning"
    assert pd.isna(costs["stage"]["second"])
    assert (costs["seconds"] >= 0).all()
    assert costs["peak_memory"]["second"] > costs["peak_memory"]["first"] > 10_000_000
    assert costs["machine"].str.contains(r"^\d+ cores, \d+ GB of memory").all()


def test_time_starts_where_the_node_before_ended(run, monkeypatch):
    ticks = iter(
        [0.0, 1.5, 10.0, 12.25, 20.0]
    )  # the start, then the end and the next start of each
    monkeypatch.setattr("closer_look.project.node_log.perf_counter", lambda: next(ticks))
    assert run()["seconds"].tolist() == [1.5, 2.25]


def test_a_node_that_failed_has_no_line(run, tmp_path):
    broken = Node(lambda three: 1 / 0, "three", "four", name="third")
    with pytest.raises(ZeroDivisionError):
        run(PIPELINE + Pipeline([broken]))
    costs = NodeCostsDataset(filepath=str(tmp_path / "costs.jsonl")).load()
    assert costs["node"].tolist() == ["first", "second"]


def test_a_catalog_without_the_entry_is_none_the_worse():
    catalog = DataCatalog({"three": MemoryDataset()})
    assert DepthFirstRunner().run(PIPELINE, catalog, _create_hook_manager())["three"].load() == 1


def test_a_run_records_the_nodes_of_its_scenario(whole_run, load_result):
    started = re.findall(r"\[\d+/\d+\] (\S+)", whole_run.printed)
    costs = load_result(whole_run.data, "continual.node_costs")
    others = load_result(whole_run.data, "fictitious.node_costs")
    assert len(started) > 50
    assert list(costs["node"]) == started
    assert costs["stage"].notna().all()
    assert list(others["node"]) == [name for name in started if "." not in name]
