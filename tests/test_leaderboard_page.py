"""``tools/leaderboard_page.py``: the page is of the newest results, and says from which commit."""

import json
import runpy

import pytest

COSTS = [  # node, start, seconds, machine
    ("finetune", "00:00", 1800, "2 cores"),
    ("benchmark.me_gd.tune_method", "02:00", 5400, "2 cores"),
    ("benchmark.ga_gd.tune_method", "02:10", 600, "2 cores"),  # while another is at work
    ("continual.me_gd.task_01.unlearn", "09:00", 99999, "8 cores"),
]


@pytest.fixture
def tool(root):
    return runpy.run_path(str(root / "tools" / "leaderboard_page.py"))


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "run" / "benchmark"
    record = {
        "parameters": {"experiment": {"n_tasks": 4, "seeds": [1001, 1002]}},
        "libraries": {"torch": "2.13.0"},
        "commit": "c0ffee",
    }
    for version, rank in (("2026-01-01", 2), ("2026-01-02", 1)):
        texts = {"leaderboard.md": f"| ME+GD | {rank} |\n", "run_record.json": json.dumps(record)}
        for name, text in texts.items():
            path = folder / name / version / name
            path.parent.mkdir(parents=True)
            path.write_text(text)
    names = ("node", "started", "seconds", "machine")
    costs = [dict(zip(names, one, strict=True)) | {"gpus": None} for one in COSTS]
    lines = [json.dumps(one | {"started": f"2026-01-01T{one['started']}+00:00"}) for one in costs]
    (tmp_path / "run" / "node_costs.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def test_page_holds_the_newest_table_and_how_it_was_made(tool, results):
    page = tool["write_page"]("Leaderboard", "kedro run --pipelines benchmark", results)
    assert page.startswith("# Leaderboard\n")
    assert "```sh\n# takes 2.0 hours\nkedro run --pipelines benchmark\n```" in page
    assert "| ME+GD | 1 |" in page
    assert "| ME+GD | 2 |" not in page
    assert "on 2 cores, with torch 2.13.0, from commit `c0ffee`: 4 tasks, seeds 1001, 1002." in page


def test_without_a_run_there_is_no_page(tool, tmp_path):
    with pytest.raises(SystemExit, match="run `kedro run --pipelines benchmark` first"):
        tool["write_page"]("Leaderboard", "kedro run", tmp_path)
