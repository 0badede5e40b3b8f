"""The graph follows the experiment: what stands in it, and what starts from what."""

from statistics import median
from time import process_time

import pytest

from closer_look.data.planning import plan_of_task
from closer_look.parameters.experiment import Experiment, ForgetSetParameters
from closer_look.parameters.methods import MethodParameters
from closer_look.pipelines import export
from closer_look.pipelines.scenarios import create_measure, create_scenario
from closer_look.pipelines.unlearning.nodes import draw_own_plan, instruct
from closer_look.project.runner import depth_first

SHAPE = {"methods": ["npo_gd", "me_gd"], "n_tasks": 3, "splits": ["forget", "retain"]}
TRAINED = {"forget": {"loss": "npo"}, "retain": {"loss": "gradient_descent"}}
METHODS = {
    "npo_gd": TRAINED,
    "me_gd": TRAINED,
    "altpo": TRAINED | {"alternates": {"per_row": 2}},
    "long": TRAINED | {"epochs": 9},
    "long_altpo": TRAINED | {"epochs": 9, "alternates": {"per_row": 2}},
    "guard": {"instruction": "Say nothing."},
}


def scenario(**changes):
    experiment = Experiment.model_validate(SHAPE | changes)
    return create_scenario("continual", experiment, METHODS, experiment.n_tasks, {})


def nodes_of(pipeline, method):
    """Nodes that make a method's models."""
    stages = {"reference", "unlearning"}
    found = [node.name for node in pipeline.nodes if method in node.tags and stages & node.tags]
    return sorted(name.removeprefix(f"continual.{method}.") for name in found)


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
    pipeline = scenario(retain_only="finetuned", membership=True)
    for node in ("aggregate_metrics", "infer_membership"):
        assert "retain_only.scores" in inputs(pipeline, f"continual.{cell}.{node}")


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


def test_general_abilities_of_models_made_elsewhere_are_measured_without_training():
    theirs = {"models": ["theirs"], "downstream": True, "finetuning": False}
    shape = Experiment.model_validate(SHAPE | theirs)
    pipeline = create_measure("measure", shape)
    cells = nodes_called(pipeline, "measure_abilities")
    assert cells == ["measure.before", "measure.theirs.task_03"]
    assert "list_abilities" in names(pipeline)
    assert "measure.downstream" in inputs(pipeline, "measure.write_report")


def test_every_cell_of_the_grid_is_evaluated_once():
    expected = sorted(
        ["before"] + [f"{m}.task_0{t}" for m in ("npo_gd", "me_gd") for t in (1, 2, 3)]
    )
    functions = ("generate_answers", "score_answers", "judge_answers", "aggregate_metrics")
    for function in (*functions, "infer_membership"):
        assert nodes_called(scenario(membership=True), function) == expected


def test_membership_costs_nothing_unless_it_is_asked_for():
    pipeline = scenario()
    assert not {"hold_out", "continual.stack_membership"} & names(pipeline)
    assert not [name for name in pipeline.datasets() if "membership" in name or name == "holdout"]
    assert "holdout" in inputs(scenario(membership=True), "continual.before.score_answers")
    assert "membership" in inputs(scenario(membership=True), "continual.write_report")


def test_results_leave_a_methods_namespace_as_one_table_of_each_kind():
    pipeline = scenario()
    stacked = inputs(pipeline, "continual.stack_summaries")
    assert stacked == {"before.summary", "npo_gd.summary", "me_gd.summary"}
    of_tasks = {f"me_gd.task_0{task}.summary" for task in (1, 2, 3)}
    assert inputs(pipeline, "continual.me_gd.stack_summaries") == of_tasks


def test_a_chain_of_more_than_a_hundred_tasks_goes_on_as_it_began():
    pipeline = scenario(methods=["me_gd"], n_tasks=101)
    assert "me_gd.task_99.model" in inputs(pipeline, "continual.me_gd.task_100.unlearn")
    assert "evaluation_task_101" in inputs(pipeline, "continual.me_gd.task_101.score_answers")
    order = [node.name.split(".")[2] for node in depth_first(pipeline) if "unlearn" in node.name]
    assert order == [f"task_{task:02d}" for task in range(1, 102)]


def test_ten_times_the_cells_take_some_ten_times_as_long():
    methods = [f"copy_{number}" for number in range(11)]
    settings = dict.fromkeys(methods, TRAINED)

    def seconds(n_tasks):
        shape = Experiment.model_validate(SHAPE | {"methods": methods, "n_tasks": n_tasks})
        before = process_time()
        create_scenario("continual", shape, settings, n_tasks, {})
        return process_time() - before

    few, many = zip(*((seconds(2), seconds(20)) for _ in range(3)), strict=True)
    assert median(many) < 13 * median(few)


# --- seeds ------------------------------------------------------------------------------------

SEEDED = {"seeds": [1001, 1002], "methods": ["me_gd", "long_altpo", "guard"], "n_tasks": 2}


def test_every_seed_is_a_chain_of_its_own_from_the_same_target_model():
    pipeline = scenario(seeds=[1001, 1002], methods=["me_gd"])
    cells = [f"me_gd.seed_{seed}.task_0{task}" for seed in (1001, 1002) for task in (1, 2, 3)]
    for function in ("unlearn", "score_answers", "aggregate_metrics"):
        assert set(nodes_called(pipeline, function)) - {"before"} == set(cells)
    for seed in (1001, 1002):
        chain = f"continual.me_gd.seed_{seed}"
        assert "target_model" in inputs(pipeline, f"{chain}.task_01.unlearn")
        assert f"me_gd.seed_{seed}.task_01.model" in inputs(pipeline, f"{chain}.task_02.unlearn")


def test_a_seed_draws_plans_and_is_given_to_whatever_draws():
    pipeline = scenario(**SEEDED)
    drawing = [node for node in pipeline.nodes if "seed_1002" in node.inputs]
    assert {node.name.removeprefix("continual.") for node in drawing} == {
        "draw_plans_seed_1002",
        "me_gd.seed_1002.task_01.unlearn",
        "me_gd.seed_1002.task_02.unlearn",
        "long_altpo.seed_1002.sample_alternates",
        "long_altpo.seed_1002.task_01.draw_own_plan",
        "long_altpo.seed_1002.task_01.unlearn",
        "long_altpo.seed_1002.task_02.draw_own_plan",
        "long_altpo.seed_1002.task_02.unlearn",
    }
    assert "plan_seed_1002_task_02" in inputs(pipeline, "continual.me_gd.seed_1002.task_02.unlearn")
    assert "plan_task_01" not in pipeline.datasets()


def test_a_seed_can_be_chosen_by_its_tag():
    pipeline = scenario(**SEEDED)
    tagged = [node.name for node in pipeline.only_nodes_with_tags("seed_1001").nodes]
    assert all("seed_1001" in name for name in tagged)
    assert len(tagged) == sum("seed_1001" in node.name for node in pipeline.nodes)


def test_a_method_s_results_are_stacked_over_its_seeds():
    stacked = inputs(scenario(**SEEDED), "continual.me_gd.stack_summaries")
    cells = [f"me_gd.seed_{seed}.task_0{task}" for seed in (1001, 1002) for task in (1, 2)]
    assert stacked == {f"{cell}.summary" for cell in cells}


def test_answers_benchmarks_and_exports_are_of_the_first_seed():
    pipeline = scenario(**SEEDED, downstream=True)
    asked = inputs(pipeline, "continual.compare_answers")
    assert "me_gd.seed_1001.task_02.generations" in asked
    assert "me_gd.seed_1002.task_02.generations" not in asked
    assert "me_gd.seed_1002.task_02" not in nodes_called(pipeline, "measure_abilities")
    shape = Experiment.model_validate(SHAPE | SEEDED)
    exported = export.create_pipeline("continual", shape, 2)
    found = inputs(exported, "continual.export_me_gd")
    assert {"me_gd.seed_1001.task_02.model", "seed_table"} <= found
    shape = shape.model_copy(update={"stress": ("noise",)})
    exported = export.create_pipeline("continual", shape, 2)
    assert "residual_knowledge" in inputs(exported, "continual.export_me_gd")


def test_without_seeds_nothing_is_named_by_one():
    assert not [name for name in scenario().datasets() | names(scenario()) if "seed" in name]


# --- methods with nodes of their own ----------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "once", "of_each_task"),
    [
        ("npo_gd", [], ["score_reference", "unlearn"]),
        ("altpo", ["sample_alternates"], ["score_reference", "unlearn"]),
        ("long", [], ["draw_own_plan", "score_reference", "unlearn"]),
        ("long_altpo", ["sample_alternates"], ["draw_own_plan", "score_reference", "unlearn"]),
        ("guard", [], ["instruct"]),
    ],
)
def test_a_method_has_the_nodes_that_it_needs(method, once, of_each_task):
    pipeline = scenario(methods=["npo_gd", method] if method != "npo_gd" else [method])
    of_tasks = [f"task_0{task}.{name}" for task in (1, 2, 3) for name in of_each_task]
    assert nodes_of(pipeline, method) == sorted(once + of_tasks)


def test_alternates_are_made_once_for_all_tasks_by_the_target_model():
    pipeline = scenario(methods=["altpo", "npo_gd"])
    given = inputs(pipeline, "continual.altpo.sample_alternates")
    plans = {f"plan_task_0{task}" for task in (1, 2, 3)}
    parameters = {"params:methods.altpo", "params:unlearning", "params:generation"}
    assert given == plans | parameters | {"target_model", "questions"}
    for task in (1, 2, 3):
        for node in ("score_reference", "unlearn"):
            found = inputs(pipeline, f"continual.altpo.task_0{task}.{node}")
            assert {"altpo.alternates", f"plan_task_0{task}"} <= found
    assert "altpo.alternates" not in inputs(pipeline, "continual.npo_gd.task_01.unlearn")


def test_a_method_with_epochs_of_its_own_has_its_plan_and_others_have_that_of_all():
    pipeline = scenario(methods=["long", "npo_gd"])
    own = inputs(pipeline, "continual.long.task_02.draw_own_plan")
    assert {"plan_task_02", "questions", "refusals"} <= own
    for node in ("score_reference", "unlearn"):
        found = inputs(pipeline, f"continual.long.task_02.{node}")
        assert "long.task_02.own_plan" in found
        assert "plan_task_02" not in found
        assert "plan_task_02" in inputs(pipeline, f"continual.npo_gd.task_02.{node}")


def test_an_instruction_is_given_to_the_target_model_in_each_task():
    pipeline = scenario(methods=["guard"])
    for task in (1, 2, 3):
        assert inputs(pipeline, f"continual.guard.task_0{task}.instruct") == {
            *("target_model", "questions", f"plan_task_0{task}", "params:methods.guard")
        }
        evaluated = inputs(pipeline, f"continual.guard.task_0{task}.score_answers")
        assert f"guard.task_0{task}.model" in evaluated


@pytest.mark.parametrize("pairing", ["fixed", "per_epoch"])
def test_the_first_epochs_of_an_own_plan_are_those_of_all(make_questions, pairing):
    questions = make_questions(("forget", 1, 5), ("forget", 2, 4), ("retain", 0, 7))
    shape = {"pairing": pairing, "seed": 3}
    refusals = ["No.", "I cannot say.", "Who knows?"]
    common = plan_of_task(questions, refusals, 2, epochs=3, **shape)
    forget_set = ForgetSetParameters(evaluation_rows=4, **shape)
    method = MethodParameters(label="X", epochs=7, **TRAINED)
    own = draw_own_plan(questions, refusals, common, forget_set, method)
    assert own["epoch"].max() == 7
    assert len(own) == 7 * 4
    assert own[own["epoch"] <= 3].equals(common)
    shorter = draw_own_plan(
        questions, refusals, common, forget_set, method.model_copy(update={"epochs": 2})
    )
    assert shorter.equals(common[common["epoch"] <= 2])


def test_an_instruction_names_this_task_and_those_before(language_model, make_questions):
    questions = make_questions(("forget", 1, 1), ("forget", 2, 1), ("forget", 3, 1))
    questions["subject"] = ["Ada", "Bo", "Cy"]
    method = MethodParameters(label="X", instruction="Nothing of {subjects}.")
    plan = questions[questions["task_id"] == 2].rename(columns={"row_id": "forget_row_id"})
    model, log = instruct(language_model, plan, questions, method)
    assert "Nothing of Ada and Bo." in model.tokenizer.chat_template
    assert log.empty
    assert {"step", "loss", "in_model"} <= set(log.columns)


@pytest.fixture(scope="module")
def tuned():
    experiment = Experiment.model_validate(SHAPE | {"methods": [*METHODS], "n_tasks": 2})
    return create_scenario("continual", experiment, METHODS, 2, {}, tuned=True)


def test_each_method_that_trains_is_tuned_once_from_the_target_model(tuned):
    trained = sorted(set(METHODS) - {"guard"})
    assert nodes_called(tuned, "tune_method") == trained
    assert {"target_model", "validation", "params:methods.me_gd", "params:tuning"} <= inputs(
        tuned, "continual.me_gd.tune_method"
    )


def test_all_methods_are_checked_before_any_is_tuned(tuned):
    checked = {name for name in inputs(tuned, "list_spaces") if "methods" in name}
    assert checked == {f"params:methods.{method}" for method in METHODS}


def test_tuned_method_takes_the_place_of_its_parameters_in_all_its_cells(tuned):
    for node in ("draw_own_plan", "score_reference", "unlearn"):
        for task in ("task_01", "task_02"):
            found = inputs(tuned, f"continual.me_gd.{task}.{node}")
            assert "me_gd.tuned_method" in found
            assert "params:methods.me_gd" not in found
    assert "me_gd.task_02.own_plan" in inputs(tuned, "continual.me_gd.task_02.unlearn")
    assert "altpo.alternates" in inputs(tuned, "continual.altpo.task_01.unlearn")
    assert "params:methods.guard" in inputs(tuned, "continual.guard.task_01.instruct")


def test_no_reported_row_has_chosen_a_setting(tuned):
    for cell in ("before", "guard.task_02", "me_gd.task_02"):
        for node in ("score_answers", "generate_answers", "judge_answers"):
            found = inputs(tuned, f"continual.{cell}.{node}")
            assert "evaluation_task_02_reported" in found
            assert "evaluation_task_02" not in found
    assert "evaluation_task_02" in inputs(tuned, "draw_validation")


def test_without_tuning_nothing_of_it_is_there():
    words = ("tuned", "params:tuning", "trials", "validation", "reported")
    assert not [name for name in scenario().datasets() if any(word in name for word in words)]
