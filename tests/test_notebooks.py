"""The notebooks run, and are kept without outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_kept_without_outputs(path):
    cells = nbformat.read(path, as_version=4).cells
    assert [cell.source for cell in cells if cell.get("outputs")] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_on_the_results_of_a_run(path, root, kedro_run, tmp_path):
    kedro_run(tmp_path, "continual")
    notebook = nbformat.read(path, as_version=4)
    parameters = f"%reload_kedro --env=test --params=data={tmp_path.as_posix()}"
    notebook.cells.insert(2, nbformat.v4.new_code_cell(parameters))
    resources = {"metadata": {"path": root / "notebooks"}}
    NotebookClient(notebook, timeout=120, resources=resources).execute()
    errors = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert errors
    assert not any(output["output_type"] == "error" for output in errors)
