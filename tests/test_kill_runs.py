"""What the tool that kills runs counts, on folders that look like killed runs."""

import json
import runpy
import sys
from collections import Counter

import pytest


@pytest.fixture(scope="module")
def tool(root):
    return runpy.run_path(root / "tools" / "kill_runs.py")


@pytest.fixture
def run_folder(tmp_path):
    """A folder with the records of a run, to which lines can be added."""
    reports = tmp_path / "killed" / "08_reporting" / "test"
    reports.mkdir(parents=True)

    def add(name, *records, end=""):
        with (reports / f"{name}.jsonl").open("a") as file:
            file.write("".join(f"\n{json.dumps(record)}" for record in records) + end)
        return reports.parents[1]

    return add


def test_a_node_with_two_lines_has_run_twice(tool, run_folder):
    data = run_folder("node_costs", {"node": "finetune"}, {"node": "unlearn"}, end='\n{"node": "re')
    assert tool["doubled"](data) == []
    run_folder("node_costs", {"node": "unlearn"})
    assert tool["doubled"](data) == ["unlearn"]


def test_a_node_saves_between_its_two_records(tool, run_folder, tmp_path):
    assert not tool["is_saving"](tmp_path / "not there yet")
    data = run_folder("provenance", {"node": "finetune", "before": {}})
    assert tool["is_saving"](data)
    run_folder("provenance", {"node": "finetune", "outputs": {}})
    assert not tool["is_saving"](data)


@pytest.mark.parametrize(
    "left", ["06_models/target.replaced", "a.parquet/b/a.parquet.12.partial", "t.checkpoints"]
)
def test_what_is_left_is_found(tool, run_folder, left):
    data = run_folder("node_costs")
    assert tool["left_over"](data) == []
    (data / left).mkdir(parents=True)
    assert tool["left_over"](data) == [left]


class _Attempt:
    """A run that survives every kill but the first, and writes nothing."""

    error, leaves, killed = "", "", False

    def __init__(self, data, env):
        self.data = data
        data.mkdir(parents=True, exist_ok=True)
        if data.name == "killed" and self.leaves:
            (data / self.leaves).touch()

    def kill(self, seconds, more):
        type(self).killed = not self.killed
        return self.killed

    def end(self):
        return self.error if self.data.name == "killed" else ""


COUNTED = "2 kills (0 as files were saved), 2 runs completed"


@pytest.mark.parametrize(
    ("changes", "result", "closing"),
    [
        ({}, "1", "0 with other results, 0 nodes ran again, 0 left-overs, 0 resumes refused"),
        ({}, "2", "2 with other results, 0 nodes ran again, 0 left-overs, 0 resumes refused"),
        (
            {"leaves": "a.partial"},
            "1",
            "0 with other results, 0 nodes ran again, 2 left-overs, 0 resumes refused",
        ),
        (
            {"error": "Error: no"},
            "1",
            "0 with other results, 0 nodes ran again, 0 left-overs, 2 resumes refused",
        ),
    ],
    ids=["nothing", "another result", "a left-over", "a refusal"],
)
def test_what_went_wrong_is_told_and_the_exit_code(
    tool, monkeypatch, capsys, tmp_path, changes, result, closing
):
    own = tool["kill_runs"].__globals__
    monkeypatch.setitem(own, "Attempt", type("Attempt", (_Attempt,), changes))
    found = {"undisturbed": {"answers": "1"}, "killed": {"answers": result}}
    monkeypatch.setitem(own, "results", lambda data, env: found[data.name])
    monkeypatch.setattr(sys, "argv", ["kill_runs.py", "--kills", "2", "--data", str(tmp_path)])
    if not changes and result == "1":
        tool["main"]()
    else:
        with pytest.raises(SystemExit) as ended:
            tool["main"]()
        assert ended.value.code == 1
    completed = COUNTED.replace("2 runs", "0 runs") if "error" in changes else COUNTED
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"{completed}: {closing}"
    if "error" in changes:
        assert "refused: Error: no" in printed
    assert list(tmp_path.glob("killed/*")) == []


def test_counts_of_nothing_are_nothing(tool):
    assert tool["closing_line"](Counter()) == (
        "0 kills (0 as files were saved), 0 runs completed: 0 with other results, "
        "0 nodes ran again, 0 left-overs, 0 resumes refused"
    )
