"""The notebooks run, show what they promise, log quietly and are kept without outputs."""

import os
import runpy
from pathlib import Path

import nbformat
import pandas as pd
import pytest
import yaml
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
PLAIN_JUPYTER = []
KEDRO_JUPYTER = ["--ext", "kedro.ipython"]  # what the kernel of `kedro jupyter` is started with


@pytest.fixture(scope="module")
def data(kedro_run, tmp_path_factory):
    """Two versions of a run: an earlier one with two methods and other parameters."""
    folder = tmp_path_factory.mktemp("data")
    earlier = {"unlearning": {"learning_rate": 3e-3}, "experiment": {"methods": "me_gd idk_ap"}}
    kedro_run(folder, "continual", parameters=earlier)
    kedro_run(folder, "continual")
    return folder


@pytest.fixture(scope="module")
def execute(root):
    def run(stem, kernel_arguments, data):
        """Execute a notebook and return its outputs: a list of mime type -> content."""
        notebook = nbformat.read(root / "notebooks" / f"{stem}.ipynb", as_version=4)
        codes = [n for n, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
        parameters = f"%reload_kedro --env=test --params=data={data.as_posix()}"
        notebook.cells.insert(codes[0] + 1, nbformat.v4.new_code_cell(parameters))
        NotebookClient(
            notebook,
            timeout=120,
            resources={"metadata": {"path": root / "notebooks"}},
            extra_arguments=kernel_arguments,
        ).execute(env=os.environ | {"PLOTLY_RENDERER": "plotly_mimetype"})  # without plotly.js
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert [output for output in outputs if output.get("name") == "stderr"] == []
        return [output.get("data") or {"text/plain": output["text"]} for output in outputs]

    return run


def tables(outputs):
    return [output["text/html"] for output in outputs if "<table" in output.get("text/html", "")]


def figures(outputs):
    kind = "application/vnd.plotly.v1+json"
    return [output[kind] for output in outputs if kind in output]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.source for cell in cells if cell.get("outputs")] == []
    assert [cell.source for cell in cells if cell.get("execution_count")] == []


def test_notebooks_log_as_the_command_line_does(root):
    # Kedro looks for conf/logging.yml in the folder where a kernel starts, and in no other.
    command_line, notebooks = (
        yaml.safe_load((folder / "conf" / "logging.yml").read_text(encoding="utf-8"))
        for folder in (root, root / "notebooks")
    )
    assert notebooks == command_line


def test_tables_show_texts_and_heads_as_texts(root):
    show = runpy.run_path(root / "notebooks" / "tables.py")["show"]
    attack = "<script>alert(1)</script>"
    html = show(pd.DataFrame({"question": [attack], attack: [attack], "value": [0.5]})).to_html()
    assert attack not in html
    assert html.count("&lt;script&gt;alert(1)") == 3


@pytest.mark.slow
def test_explore_results(execute, copied_run):
    outputs = execute("01_explore_results", PLAIN_JUPYTER, copied_run)
    summary = tables(outputs)[0]
    for shown in ("before", "GA+GD", "ME+GD", "IDK+AP", "MU", "FE so far"):
        assert f">{shown}<" in summary
    titles = [figure["layout"]["title"]["text"] for figure in figures(outputs)]
    assert titles[:2] == ["Kept and forgotten, task by task", "MU against FE over all tasks so far"]
    assert len(titles) == 6
    assert any(">unlearning<" in table and ">gigabytes<" in table for table in tables(outputs))
    assert any("continual.idk_ap.task_02.generations" in table for table in tables(outputs))


@pytest.mark.slow
def test_ask_the_models(execute, copied_run):
    outputs = execute("02_ask_the_models", KEDRO_JUPYTER, copied_run)
    answers, own_answers = tables(outputs)
    for model in ("before", "after task 1", "after task 2"):
        assert f">{model}<" in answers
        assert f">{model}<" in own_answers
    assert "What does Ilse Marwood do for a living?" in own_answers
    heatmap = figures(outputs)[0]["data"][0]
    assert heatmap["x"] == ["before", "after task 1", "after task 2"]
    assert len(heatmap["y"]) == 10  # two questions of two tasks and of three sets to retain


@pytest.mark.slow
def test_add_a_loss(execute, copied_run):
    outputs = execute("03_add_a_loss", PLAIN_JUPYTER, copied_run)
    push, curves, trade_off = figures(outputs)
    assert "gradient ascent" in [trace["name"] for trace in push["data"]]
    methods = {"GA+GD", "ME+GD", "IDK+AP", "NPO+GD", "SimNPO+GD"}
    for figure in (curves, trade_off):
        assert methods < {trace["name"] for trace in figure["data"]}
    _, last, answers = tables(outputs)
    assert all(f">{method}<" in last for method in methods | {"before"})
    assert ">SimNPO+GD<" in answers
    assert (copied_run / "08_reporting" / "test_simnpo" / "continual" / "report.html").is_dir()


@pytest.mark.slow
def test_compare_runs(execute, data):
    outputs = execute("04_compare_runs", KEDRO_JUPYTER, data)
    stored = data / "08_reporting" / "test" / "continual" / "summary_table.parquet"
    earlier, later = sorted(path.name for path in stored.iterdir())
    versions, parameters, others, last, change, answers = tables(outputs)
    for table in (versions, parameters, last, answers):
        assert earlier in table
        assert later in table
    assert "unlearning.learning_rate" in parameters
    assert "0.003" in parameters
    assert "experiment.methods" in parameters
    assert "finetuning" not in parameters
    assert "libraries" not in others  # one environment made both
    assert "ME+GD" in change
    assert "GA+GD" not in change  # the earlier version knows nothing of it
    (figure,) = figures(outputs)
    drawn = {trace["name"]: trace["x"] for trace in figure["data"]}
    assert drawn["IDK+AP"] == [earlier, later]
    assert drawn["GA+GD"] == [later]
