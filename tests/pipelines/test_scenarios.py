"""The graph follows the experiment: what stands in it, and what starts from what."""

import pytest

from closer_look.parameters.experiment import Experiment
from closer_look.pipelines.scenarios import create_scenario

SHAPE = {"methods": ["npo_gd", "me_gd"], "n_tasks": 3, "splits": ["forget", "retain"]}


def scenario(**changes):
    experiment = Experiment.model_validate(SHAPE | changes)
    return create_scenario("continual", experiment, experiment.n_tasks)


def names(pipeline):
    return {node.name for node in pipeline.nodes}


def inputs(pipeline, node):
    (found,) = [one for one in pipeline.nodes if one.name == node]
    return {name.removeprefix("continual.") for name in found.inputs}


def nodes_called(pipeline, function):
    """Namespaces of the nodes that call a function."""
    found = [node for node in pipeline.nodes if node.name.split(".")[-1] == function]
    return sorted((node.namespace or "").removeprefix("continual.") for node in found)


def test_reference_is_the_model_after_the_task_before():
    assert "npo_gd.task_02.model" in inputs(scenario(), "continual.npo_gd.task_03.score_reference")


def test_reference_may_be_the_target_model_of_all_tasks():
    pipeline = scenario(reference="first")
    assert "target_model" in inputs(pipeline, "continual.npo_gd.task_03.score_reference")
    assert "npo_gd.task_02.model" in inputs(pipeline, "continual.npo_gd.task_03.unlearn")


def test_target_model_is_fine_tuned():
    pipeline = scenario()
    assert {"initialise", "finetune"} <= names(pipeline)
    assert "finetuning_log" in pipeline.all_outputs()


def test_target_model_may_be_a_pretrained_one():
    pipeline = scenario(finetuning=False)
    assert "take_pretrained" in names(pipeline)
    assert not {"initialise", "finetune"} & names(pipeline)
    assert "base_model" not in pipeline.datasets()
    assert "continual.finetuning_curves" not in pipeline.datasets()


def test_only_what_is_known_is_unlearned():
    pipeline = scenario(known_only=True)
    assert {"candidate_questions", "target_model"} <= inputs(pipeline, "select_known")
    assert "candidate_questions" in inputs(pipeline, "finetune")
    assert "questions" in inputs(pipeline, "draw_plans")
    assert "knowledge" in inputs(pipeline, "continual.write_report")


def test_without_a_retain_only_model_nothing_is_compared_with_it():
    pipeline = scenario()
    assert not [name for name in pipeline.datasets() if "retain_only" in name]


def test_retain_only_model_is_fine_tuned_from_the_same_base_model():
    pipeline = scenario(retain_only="finetuned")
    assert "base_model" in inputs(pipeline, "finetune_retain_only")
    assert "retain_only_model" in inputs(pipeline, "continual.retain_only.generate_answers")


def test_retain_only_model_may_be_a_pretrained_one():
    pipeline = scenario(retain_only="pretrained")
    assert "take_retain_only" in names(pipeline)
    assert "finetune_retain_only" not in names(pipeline)


@pytest.mark.parametrize("cell", ["before", "npo_gd.task_02"])
def test_every_model_is_compared_with_the_retain_only_model(cell):
    pipeline = scenario(retain_only="finetuned")
    node = f"continual.{cell}.aggregate_metrics"
    assert "retain_only.scores" in inputs(pipeline, node)


def test_stored_scores_stand_in_for_a_retain_only_model():
    pipeline = scenario(retain_only="scores")
    assert "retain_only_model" not in pipeline.datasets()
    assert "retain_only_scores" in inputs(pipeline, "select_evaluation")
    assert "retain_only_scores" in inputs(pipeline, "continual.me_gd.task_03.aggregate_metrics")


def test_general_abilities_are_measured_before_and_after_the_last_task():
    assert nodes_called(scenario(), "measure_abilities") == []
    pipeline = scenario(downstream=True)
    assert nodes_called(pipeline, "measure_abilities") == [
        "before",
        "me_gd.task_03",
        "npo_gd.task_03",
    ]
    assert "list_abilities" in names(pipeline)
    assert "downstream" in inputs(pipeline, "continual.write_report")


def test_every_cell_of_the_grid_is_evaluated_once():
    expected = sorted(
        ["before"] + [f"{m}.task_0{t}" for m in ("npo_gd", "me_gd") for t in (1, 2, 3)]
    )
    for function in ("generate_answers", "score_answers", "judge_answers", "aggregate_metrics"):
        assert nodes_called(scenario(), function) == expected


def test_results_leave_a_methods_namespace_as_one_table_of_each_kind():
    pipeline = scenario()
    stacked = inputs(pipeline, "continual.stack_summaries")
    assert stacked == {"before.summary", "npo_gd.summary", "me_gd.summary"}
    of_tasks = {f"me_gd.task_0{task}.summary" for task in (1, 2, 3)}
    assert inputs(pipeline, "continual.me_gd.stack_summaries") == of_tasks
