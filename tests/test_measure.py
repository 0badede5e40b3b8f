"""Models made elsewhere, measured with a run's rows and in its table, without any training."""

import json
import shutil

import pytest
from kedro.framework.project import pipelines

from closer_look.errors import InputError
from closer_look.evaluation import open_unlearning
from closer_look.parameters.models import MeasuredModelParameters

MODELS = "06_models/test"


def test_a_model_made_elsewhere_stands_beside_those_it_is_compared_with(
    copied_run, kedro_run, load_result, tmp_path
):
    theirs = shutil.copytree(copied_run / MODELS / "continual/me_gd.task_02", tmp_path / "theirs")
    parameters = {
        "run": "measured",
        "models": {"theirs": {"base_model": str(theirs), "label": "Theirs"}},
        "base_model": {
            "pretrained": str(copied_run / MODELS / "target"),
            "small_llama": None,
            "prompt": "chat_template",
        },
        "retain_only": {"pretrained": str(copied_run / MODELS / "target")},
        "experiment": {"finetuning": False, "retain_only": "pretrained"},
    }
    nodes = kedro_run(copied_run, "measure", parameters=parameters)
    assert not [node for node in nodes if "unlearn" in node or "finetune" in node]

    table = load_result(copied_run, "measure.summary_table", parameters).set_index("method")
    assert list(table.index) == ["before", "retain-only", "Theirs"]
    assert table.loc["Theirs", "forget_quality"] >= 0
    here = load_result(copied_run, "continual.summary_table").set_index(["method", "after_task"])
    same = ["model_utility", "forget_efficacy", "forget_efficacy_of_tasks_so_far"]
    assert table.loc["Theirs", same].tolist() == here.loc[("ME+GD", 2), same].tolist()
    assert table.loc["before", same].tolist() == here.loc[("before", 0), same].tolist()
    (path,) = (copied_run / "08_reporting/measured/measure/report.html").rglob("report.html")
    report = path.read_text(encoding="utf-8")
    assert f"Theirs is {theirs}, made elsewhere" in report
    assert "nothing was trained" in report


def test_one_model_is_measured_alone(copied_run, kedro_run, load_result, tmp_path):
    theirs = shutil.copytree(copied_run / MODELS / "continual/me_gd.task_02", tmp_path / "theirs")
    parameters = {"run": "alone", "models": {"theirs": {"base_model": str(theirs)}}}
    kedro_run(copied_run, "measure", parameters=parameters)
    table = load_result(copied_run, "measure.summary_table", parameters)
    assert list(table["method"]) == ["theirs"]
    assert table["model_utility"].notna().all()
    answers = load_result(copied_run, "measure.answers", parameters)
    assert "theirs" in answers
    assert "before" not in answers


def test_a_folder_is_the_short_form_of_a_pretrained_model():
    short = MeasuredModelParameters.model_validate({"base_model": "folder"})
    assert short.base_model.pretrained == "folder"
    assert short.base_model.prompt == "chat_template"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"models": {"before": {"base_model": "x"}}}, "'before' is the name of a model of the run"),
        ({"models": {"me_gd": {"base_model": "x"}}}, "'me_gd' is the name of a model of the run"),
        ({"models": {"a b": {"base_model": "x"}}}, "parameter models: 'a b' is not a valid name"),
        ({"experiment": {"models": "theirs"}}, r"there is no 'theirs' in models; add models"),
        ({}, r"'measure' needs a model to measure, such as models\.NAME\.base_model=FOLDER"),
        ({"models": {"x": {"base_model": "./nowhere"}}}, r"\./nowhere"),
        ({"models": {"x": {"label": "X"}}}, r"models\.x: give either 'base_model' or 'evaluat"),
        ({"models": {"x": {"base_model": "a", "evaluation": "b"}}}, r"models\.x: give either"),
    ],
)
def test_faults_are_named_before_anything_is_measured(
    kedro_run, tmp_path, parameters, message, caplog
):
    with pytest.raises(InputError, match=message):
        kedro_run(tmp_path, "measure", parameters=parameters)
    started = [one.getMessage() for one in caplog.records if one.name.endswith(".node_log")]
    assert not [node for node in started if node.endswith(("score_answers", "generate_answers"))]


def test_numbers_of_an_evaluation_elsewhere_stand_in_the_table_and_the_figures(
    open_session, tmp_path
):
    made = dict.fromkeys(("rougeL_recall", "prob", "score"), 0.25)
    found = {name: {"value_by_index": {"0": made, "1": made}} for name in open_unlearning.READ}
    (tmp_path / "TOFU_EVAL.json").write_text(json.dumps(found))
    models = {"theirs": {"evaluation": str(tmp_path), "label": "Theirs"}}
    with open_session(tmp_path, {"models": models}) as session:
        session.load_context()
        scenario = pipelines["continual"]
    assert "continual.theirs.task_02.read_numbers" in {node.name for node in scenario.nodes}
    assert not {name for name in scenario.datasets() if "theirs" in name} - {
        "params:models.theirs",
        *(f"continual.theirs.task_02.{name}" for name in ("metrics", "summary")),
    }
    by_name = {node.name: node for node in scenario.nodes}
    for name in ("tabulate_summary", "plot_trade_off", "plot_metric_values"):
        assert "params:models.theirs" in by_name[f"continual.{name}"].inputs
    for name in ("plot_truth_ratios", "compare_answers", "collect_fingerprints", "plot_curves"):
        assert "params:models.theirs" not in by_name[f"continual.{name}"].inputs
