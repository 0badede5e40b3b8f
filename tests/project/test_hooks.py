"""Hooks: the live configuration reaches the pipelines."""

import pytest
from kedro.framework.project import pipelines

from closer_look.errors import InputError


@pytest.mark.parametrize("n_tasks", [3, 1])
def test_parameters_of_a_session_shape_its_pipelines(open_session, tmp_path, n_tasks):
    parameters = {"experiment": {"n_tasks": n_tasks, "methods": ["me_gd"]}}
    with open_session(tmp_path, parameters) as session:
        session.load_context()
        nodes = [node for node in pipelines["continual"].nodes if node.name.endswith(".unlearn")]
    assert len(nodes) == n_tasks


def test_second_session_of_a_process_does_not_run_the_first_ones_pipelines(open_session, tmp_path):
    sizes = []
    for methods in (["me_gd"], ["me_gd", "ga_gd"]):
        with open_session(tmp_path, {"experiment": {"methods": methods}}) as session:
            session.load_context()
            sizes.append(len(pipelines["continual"].nodes))
    assert sizes[0] < sizes[1]


def test_environment_shapes_the_pipelines(open_session, tmp_path):
    sizes = []
    for env in ("test", "base"):
        with open_session(tmp_path, env=env) as session:
            session.load_context()
            sizes.append(len(pipelines["continual"].nodes))
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", ["erasure", "verify"])
def test_what_each_run_does_is_not_left_out(kedro_run, tmp_path, name):
    with pytest.raises(
        InputError, match=r"^--only-missing-outputs: leave it out; .* what is due, "
    ):
        kedro_run(tmp_path, name, only_missing_outputs=True)
