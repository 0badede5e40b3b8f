"""A loss and a metric of a user's own package take part in a run, and no file here changes."""

import sys

import pytest

PACKAGE = {
    "__init__": "",
    "losses": """
from typing import Annotated
from annotated_types import Gt
from torch.nn.functional import logsigmoid
from closer_look.losses import Loss, sequence_nll
from closer_look.losses.nll import mean_over_answered_rows

def softly(logits, labels, gamma: Annotated[float, Gt(0)] = 1.0):
    nll = sequence_nll(logits, labels)
    return mean_over_answered_rows(-2 / gamma * logsigmoid(gamma * nll), labels)

SOFTLY = Loss(softly, "SOFT", "make the true answer softly less likely")
""",
    "metrics": """
import numpy as np
from closer_look.metrics import Metric

def share(rows):
    return np.array([np.mean(hits) for hits in rows.scores["token_hits"]])

FIRST_CHOICE = Metric("first_choice", "First choice", "how many tokens it would choose", share)
""",
}
METHOD = {
    "label": "SOFT+GD",
    "forget": {"loss": "own_package.losses:SOFTLY", "gamma": 0.5},
    "retain": {"loss": "gradient_descent"},
}


@pytest.fixture
def own_package(tmp_path, monkeypatch):
    folder = tmp_path / "own_package"
    folder.mkdir()
    for name, text in PACKAGE.items():
        (folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    yield folder
    for name in [name for name in sys.modules if name.startswith("own_package")]:
        del sys.modules[name]


@pytest.fixture
def parameters():
    return {
        "experiment": {"methods": ["soft_gd"]},
        "methods": {"soft_gd": METHOD},
        "metrics": {"own": ["own_package.metrics:FIRST_CHOICE"]},
    }


def test_own_loss_and_metric_reach_the_report(
    kedro_run, open_session, tmp_path, own_package, parameters
):
    kedro_run(tmp_path / "data", "fictitious", parameters=parameters)
    with open_session(tmp_path / "data", parameters) as session:
        catalog = session.load_context().catalog
        assert "first_choice" in catalog.load("fictitious.soft_gd.task_01.row_metrics")
        assert "first_choice" in set(catalog.load("fictitious.metrics")["metric"])
        figure = catalog.load("fictitious.metric_values")
        assert "First choice" in figure.layout.yaxis.ticktext
        report = catalog.load("fictitious.report")
        made = {record["node"]: record for record in catalog.load("provenance")}
    assert "make the true answer softly less likely" in report
    assert "how many tokens it would choose" in report
    assert "loss own_package.losses:SOFTLY" in made["fictitious.soft_gd.task_01.unlearn"]["code"]
    assert (
        "metric own_package.metrics:FIRST_CHOICE"
        in made["fictitious.soft_gd.task_01.measure_rows"]["code"]
    )
    assert "metric" not in str(made["fictitious.soft_gd.task_01.generate_answers"]["code"])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"forget": {"loss": "own_package.losses:softly", "gamma": -1}}, "gamma of loss 'softly'"),
        ({"forget": {"loss": "own_package.losses:nope"}}, "'own_package.losses:nope' cannot be"),
        ({"retain": {"loss": "own_package.nope:x"}}, "'own_package.nope:x' cannot be imported"),
    ],
)
def test_own_losses_are_checked_before_anything_runs(
    kedro_run, tmp_path, own_package, parameters, change, fault
):
    from closer_look.errors import InputError

    parameters["methods"]["soft_gd"] = METHOD | change
    with pytest.raises(InputError, match=fault):
        kedro_run(tmp_path / "data", "fictitious", parameters=parameters)
    assert not list((tmp_path / "data").rglob("*.parquet"))
