"""Cells: one name for namespaces, catalog entries and folders."""

import pytest

from closer_look.data.cells import BEFORE, Cell
from closer_look.parameters.experiment import task_name

CELLS = {
    "continual.before": Cell("continual", BEFORE),
    "continual.me_gd": Cell("continual", "me_gd"),
    "continual.me_gd.task_03": Cell("continual", "me_gd", 3),
    "real_world.npo_kl.task_12": Cell("real_world", "npo_kl", 12),
    "continual.me_gd.seed_1002.task_03": Cell("continual", "me_gd", 3, seed=1002),
    "continual.me_gd.task_03.relearn_10": Cell("continual", "me_gd", 3, attack="relearn_10"),
    "continual.me_gd.seed_7.task_03.prompts": Cell("continual", "me_gd", 3, 7, "prompts"),
}


@pytest.mark.parametrize(("namespace", "cell"), CELLS.items())
def test_a_namespace_is_read_and_written_alike(namespace, cell):
    assert cell.namespace == namespace
    assert Cell.parse(namespace) == cell
    assert cell.dataset("scores") == f"{namespace}.scores"
    assert Cell.around(f"{namespace}.unlearn") == cell


@pytest.mark.parametrize("namespace", ["", "continual", "continual.", "continual.a b", "a.b.c.d"])
def test_other_names_are_no_namespace_of_a_cell(namespace):
    with pytest.raises(ValueError, match="is not the namespace of a cell"):
        Cell.parse(namespace)


@pytest.mark.parametrize("node", ["finetune", "continual.plot_curves"])
def test_a_node_may_lie_in_no_cell(node):
    assert Cell.around(node) is None


def test_before_the_first_task_nothing_is_unlearned():
    assert Cell("continual", BEFORE).after_task == 0
    assert Cell("continual", "me_gd", 2).after_task == 2
    assert task_name(2) == "task_02"
    assert task_name(100) == "task_100"


@pytest.fixture(scope="module")
def catalog(open_session, tmp_path_factory):
    with open_session(tmp_path_factory.mktemp("data")) as session:
        return session.load_context().catalog


@pytest.mark.parametrize("entry", ["model", "scores", "generations", "summary", "fingerprint"])
def test_one_catalog_pattern_serves_every_depth(catalog, entry):
    for namespace, cell in CELLS.items():
        path = str(catalog[cell.dataset(entry)]._describe()["filepath"])
        scenario, _, rest = namespace.partition(".")
        assert f"/{scenario}/{rest}" in path
