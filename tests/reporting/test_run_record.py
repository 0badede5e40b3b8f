"""With what a run was made, in a form that JSON holds."""

import json
from importlib import metadata

from closer_look.parameters.evaluation import MetricsParameters
from closer_look.reporting.run_record import run_record

PARAMETERS = {
    "experiment": {"methods": ["me_gd"]},
    "metrics": MetricsParameters(seed=7),
    "methods": {"me_gd": {"label": "ME+GD"}, "ga_gd": {"label": "GA+GD"}},
}


def test_parameters_are_those_used_as_plain_values():
    record = json.loads(json.dumps(run_record(PARAMETERS)))
    assert record["parameters"]["methods"] == {"me_gd": {"label": "ME+GD"}}
    assert record["parameters"]["metrics"]["seed"] == 7


def test_versions_are_those_installed():
    assert run_record(PARAMETERS)["libraries"]["torch"] == metadata.version("torch")


def test_a_run_keeps_its_record(kedro_run, open_session, tmp_path):
    kedro_run(tmp_path, "fictitious", parameters={"experiment": {"methods": ["me_gd"]}})
    with open_session(tmp_path) as session:
        record = session.load_context().catalog.load("fictitious.run_record")
    assert list(record["parameters"]["methods"]) == ["me_gd"]
    assert record["parameters"]["data"] == tmp_path.as_posix()
