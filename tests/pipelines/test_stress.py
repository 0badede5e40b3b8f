"""The stress stage: which attacks are made on which models, and what becomes of them."""

import pandas as pd
import pytest

from closer_look.data.questions import to_questions
from closer_look.errors import InputError
from closer_look.evaluation.attacks import Attack
from closer_look.parameters.attacks import AttackParameters, StressParameters
from closer_look.parameters.evaluation import MetricsParameters
from closer_look.parameters.experiment import Experiment
from closer_look.pipelines.scenarios import create_scenario
from closer_look.pipelines.stress import nodes
from closer_look.pipelines.stress.nodes import (
    NO_RETAIN_ONLY_MODEL,
    attack_model,
    draw_attacked_rows,
    measure_residual,
    stack_recovered,
)

SHAPE = {"methods": ["npo_gd", "me_gd"], "n_tasks": 2, "splits": ["forget", "retain"]}
TRAINED = {"forget": {"loss": "npo"}, "retain": {"loss": "gradient_descent"}}
METHODS = {"npo_gd": TRAINED, "me_gd": TRAINED}


def ask_twice(model, rows, context, *, times: int = 2):
    return rows[["row_id"]].assign(setting="", question="?", generated=f"{model} {times}")


def compare(model, rows, context, *, retain_only_model):
    return rows[["row_id"]].assign(setting="", recovered=1.0)


ASK = Attack(ask_twice, "Asking", "It asks.", needs="subject")
COMPARE = Attack(compare, "Comparing", "It compares.", internal=True)
ATTACKS = {"ask": ASK, "compare": COMPARE}


@pytest.fixture(autouse=True)
def known_attacks(monkeypatch):
    monkeypatch.setattr(nodes, "ATTACKS", {"ask_twice": ASK, "compare": COMPARE})


def scenario(attacks, prefix="", **changes):
    experiment = Experiment.model_validate(SHAPE | changes)
    return create_scenario("continual", experiment, METHODS, 2, attacks, prefix)


def attacked(pipeline):
    """Namespaces of the attacks."""
    found = [node for node in pipeline.nodes if node.name.endswith("attack_model")]
    return sorted(node.namespace.removeprefix("continual.") for node in found)


def test_models_after_the_last_task_and_those_to_compare_with_are_attacked():
    assert attacked(scenario({"ask": ASK})) == [
        "before.ask",
        "me_gd.task_02.ask",
        "npo_gd.task_02.ask",
    ]
    assert "retain_only.ask" in attacked(scenario({"ask": ASK}, retain_only="finetuned"))


def test_of_several_seeds_the_models_of_the_first_are_attacked():
    assert attacked(scenario({"ask": ASK}, seeds=[7, 8])) == [
        "before.ask",
        "me_gd.seed_7.task_02.ask",
        "npo_gd.seed_7.task_02.ask",
    ]


def test_without_attacks_the_graph_is_as_it_was():
    pipeline = scenario({})
    assert not [node for node in pipeline.nodes if "stress" in node.tags]
    assert not [name for name in pipeline.datasets() if "attack" in name or "residual" in name]


def test_an_attack_that_compares_with_a_retain_only_model_needs_one():
    assert attacked(scenario({"compare": COMPARE})) == []
    with_one = scenario({"compare": COMPARE}, retain_only="finetuned")
    assert attacked(with_one) == [
        "before.compare",
        "me_gd.task_02.compare",
        "npo_gd.task_02.compare",
    ]
    (node,) = [n for n in with_one.nodes if n.name == "continual.before.compare.attack_model"]
    assert "retain_only_model" in node.inputs


def test_results_of_attacks_go_into_the_table_and_the_report():
    pipeline = scenario(ATTACKS)
    by_name = {node.name: node for node in pipeline.nodes}
    assert "continual.residual_knowledge" in by_name["continual.tabulate_summary"].inputs
    assert "continual.attack_map" in by_name["continual.write_report"].inputs
    assert "params:attacks.ask" in by_name["continual.record_run"].inputs
    # Never into MU and FE.
    for node in pipeline.nodes:
        if node.name.endswith(("aggregate_metrics", "stack_summaries", "measure_rows")):
            assert not [name for name in node.inputs if "recovered" in name or "attack" in name]


def test_a_report_of_its_own_leaves_the_scenario_s_as_it_is():
    with_attacks, plain = scenario(ATTACKS, "stress_"), scenario({})
    assert "continual.stress_report" in with_attacks.all_outputs()
    assert "continual.report" not in with_attacks.all_outputs()
    shared = {node.name: node for node in plain.nodes}
    for node in with_attacks.nodes:
        assert node == shared.get(node.name, node)


@pytest.fixture
def rows():
    return to_questions(
        [{"question": f"Q{n}?", "answer": f"A{n}", "key_fact": f"A{n}"} for n in range(4)],
        "forget",
        "rows",
    )


def draw(rows, names, n_rows=40):
    return draw_attacked_rows(
        rows,
        StressParameters(rows=n_rows, seed=1),
        Experiment.model_validate(SHAPE | {"stress": names}),
        {"ask": {"attack": "ask_twice"}, "compare": {"attack": "compare"}},
    )


def test_rows_to_attack_are_drawn(rows):
    assert len(draw(rows, "compare", n_rows=3)) == 3


def test_an_attack_that_is_named_and_that_no_row_can_bear_stops_the_run(rows):
    with pytest.raises(InputError) as caught:
        draw(rows, ["compare", "ask"])
    assert str(caught.value) == (
        "parameter experiment.stress: no row to forget has 'subject', which attack 'ask' needs; "
        "give the rows that column, or leave the attack out"
    )
    assert len(draw(rows, "all")) == 4  # of all attacks, it is left out
    assert len(draw(rows.assign(subject="Ana"), "ask")) == 4


def test_an_attack_gets_model_rows_and_its_own_parameters(rows):
    parameters = AttackParameters(attack="ask_twice", times=5)
    given = (parameters, None, None, None, StressParameters(seed=1))
    lines = attack_model("model", rows.assign(subject="Ana"), rows, *given)
    assert lines["generated"].tolist() == ["model 5"] * 4
    left_out = attack_model("model", rows, rows, *given)
    assert left_out.to_dict("records") == [{"reason": "no row to forget has 'subject'"}]


def test_what_all_attacks_got_back_is_put_together(rows):
    metrics = rows[["split", "row_id", "task_id"]]
    knows, forgot = (
        metrics.assign(rouge=share, cosine_similarity=share, entailment=share) for share in (1, 0)
    )
    found = rows[["row_id", "task_id"]].assign(setting="", recovered=[1, 0, 0, 0], share=0.5)
    found = found.assign(rouge=0.5, cosine_similarity=0.5, entailment=1.0, reason="")
    recovered = stack_recovered(
        rows,
        **{
            "continual.before": knows,
            "continual.me_gd.task_02": forgot,
            "continual.me_gd.task_02.ask": found,
            "continual.before.ask": found.assign(recovered=1),
            "continual.before.other": pd.DataFrame({"reason": ["it cannot be"]}),
        },
    )
    assert recovered.groupby(["method", "attack"]).size().to_dict() == {
        ("before", "ask"): 4,
        ("before", "other"): 1,
        ("before", "plain"): 4,
        ("me_gd", "ask"): 4,
        ("me_gd", "plain"): 4,
    }
    results, residual = measure_residual(
        recovered,
        MetricsParameters(seed=1, resamples=20),
        ask={"attack": "ask_twice", "label": "Asking twice"},
        compare={"attack": "compare"},
        other={"attack": "ask_twice"},
    )
    most = residual.set_index("method").loc["me_gd"]
    assert (most["value"], most["attack"], most["label"]) == (0.25, "ask", "Asking twice")
    assert residual.set_index("method").loc["before", "value"] == 1
    reasons = results[results["method"].isna()].set_index("attack")
    assert reasons["reason"].to_dict() == {
        "other": "it cannot be",
        "compare": NO_RETAIN_ONLY_MODEL,
    }
    assert reasons.loc["compare", "label"] == "Comparing"
    assert set(results["label"]) == {"Plain question", "Asking twice", "Comparing", "Asking"}


def test_an_attack_is_kept_and_refused_when_stale(kedro_run, load_result, copied_run, monkeypatch):
    monkeypatch.undo()  # the attacks of the project
    cell = "continual.me_gd.task_02.paraphrase"
    nodes = ["draw_attacked_rows_task_02", f"{cell}.attack_model", f"{cell}.judge_attack"]
    options = {"node_names": nodes, "only_missing_outputs": True}
    assert kedro_run(copied_run, "stress", **options) == nodes
    recovered = load_result(copied_run, f"{cell}.recovered")
    assert set(recovered["row_id"]) == set(load_result(copied_run, nodes[0][5:])["row_id"])
    assert kedro_run(copied_run, "stress", **options) == []
    other = {"attacks": {"paraphrase": {"rewordings": ["So: {question}"]}}}
    with pytest.raises(InputError, match=r"attacked was made with attacks\.paraphrase\.rewordings"):
        kedro_run(copied_run, "stress", parameters=other, **options)


@pytest.mark.slow
def test_all_attacks_on_a_finished_run(kedro_run, load_result, copied_run, monkeypatch):
    monkeypatch.undo()
    few = {"stress": {"rows": 2}, "attacks": {"sampling": {"n": 4}, "relearning": {"steps": [1]}}}
    ran = kedro_run(copied_run, "stress", parameters=few, only_missing_outputs=True)
    assert not [name for name in ran if name.endswith(("unlearn", "finetune", "judge_answers"))]
    assert "continual.stress_write_report" in ran
    residual = load_result(copied_run, "continual.residual_knowledge", few)
    assert set(residual["method"]) == {"before", "ga_gd", "me_gd", "idk_ap"}
    record = load_result(copied_run, "continual.stress_run_record", few)
    assert record["parameters"]["attacks"]["sampling"]["n"] == 4
    assert kedro_run(copied_run, "stress", parameters=few, only_missing_outputs=True) == []
    assert kedro_run(copied_run, only_missing_outputs=True) == []  # without attacks, as it was
