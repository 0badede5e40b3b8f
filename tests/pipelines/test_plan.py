"""``kedro run --pipelines plan`` tells what a run takes, trains nothing and disturbs no run."""

import pytest
from kedro.framework.project import pipelines
from safetensors import safe_open

from closer_look.errors import InputError
from closer_look.parameters.plan import PlanParameters

GIVEN = {"plan": {"device_memory_gb": 1e-4, "devices": 2, "peak_tflops": 989}}


@pytest.fixture
def plan(kedro_run, load_result, tmp_path, capsys):
    """Plan a run; give the estimate, and what was printed."""

    def plan(parameters=None, env="test"):
        assert kedro_run(tmp_path, "plan", parameters=parameters, env=env) == [
            "plan.collect_questions",
            "plan.estimate_run",
        ]
        return load_result(tmp_path, "estimate"), capsys.readouterr().out

    return plan


def test_it_tells_memory_disk_and_work_and_makes_no_model(plan, tmp_path):
    found, printed = plan()
    results = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert results - {"provenance.jsonl", "node_costs.jsonl", "run.lock"} == {"estimate.json"}
    assert [*found["memory"]] == ["Fine-tuning", "GA+GD", "ME+GD", "IDK+AP"]
    assert found["work"]["train"]["hours"] > 0
    assert found["advice"] == []
    for said in ("Memory of a device", "Disk", "Work", "fits", "IDK+AP"):
        assert said in printed
    assert max(map(len, printed.splitlines())) <= 100


@pytest.mark.slow
def test_models_on_the_disk_are_those_of_a_finished_run(plan, whole_run):
    found, _ = plan()
    size = 0
    for path in whole_run.data.rglob("model.safetensors"):
        with safe_open(path, "pt") as file:
            size += sum(4 * file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert found["disk"]["models"] == size


@pytest.mark.slow
def test_every_seed_has_models_of_its_own(plan):
    found, _ = plan({"experiment": {"methods": ["me_gd"], "seeds": [1001, 1002]}})
    n_models = 2 + 2 * 2  # base and target; two seeds of two tasks
    assert found["disk"]["models"] == n_models * 4 * found["model"]["weights"]


@pytest.mark.slow
def test_hardware_that_is_not_here_is_planned_for(plan):
    found, printed = plan(GIVEN)
    assert found["hardware"]["memory"] == 100_000
    assert found["hardware"]["flops_per_second"] == 0.4 * 989e12
    assert {one["verdict"] for one in found["memory"].values()} == {"too large"}
    refused, _, _, told = found["advice"]  # of fine-tuning, then of unlearning
    assert refused.startswith("Fine-tuning surely does not fit: weights, gradients and moments")
    assert told.endswith("all devices and LoRA: it needs more devices, or larger ones")
    assert "too large" in printed


@pytest.mark.slow
def test_hours_are_those_of_each_stage_on_its_workers(plan):
    given = {"plan": {"device_memory_gb": 80, "devices": 2, "peak_tflops": 989}}
    one, _ = plan(given)
    two, _ = plan(given | {"scoring": {"workers": 2}, "unlearning": {"workers": 2}})
    hours = {kind: one["work"][kind]["hours"] / two["work"][kind]["hours"] for kind in one["work"]}
    assert hours["score"] == pytest.approx(2)
    assert hours["generate"] == pytest.approx(1)
    assert 1 < hours["train"] < 2  # fine-tuning stays on one device


def test_hours_are_left_out_with_the_reason(plan):
    found, printed = plan({"plan": {"device_memory_gb": 80}})
    assert found["work"]["train"]["hours"] is None
    assert "Hours are not known: give plan.peak_tflops" in " ".join(printed.split())


@pytest.mark.slow
def test_advice_is_followed_by_a_plan_that_fits(plan):
    """A device a little too small for the activations of many rows."""
    tight = plan({"unlearning": {"batch_size": 16}})[0]["memory"]["IDK+AP"]["total"]
    given = {"device_memory_gb": 0.8 * tight / 1e9}
    found, _ = plan({"plan": given, "finetuning": {"micro_batch_size": 1}})
    (advice,) = [one for one in found["advice"] if "unlearning" in one]
    assert "--params unlearning." in advice
    changes = dict(one.split("=") for one in advice.partition("--params ")[2].split(","))
    settings = {}
    for name, value in changes.items():
        _, *path = name.split(".")
        inner = settings
        for part in path[:-1]:
            inner = inner.setdefault(part, {})
        inner[path[-1]] = {"true": True}.get(value) or int(value)
    again, _ = plan({"plan": given, "unlearning": settings, "finetuning": {"micro_batch_size": 1}})
    assert again["memory"]["IDK+AP"]["verdict"] == "fits"


@pytest.mark.slow
def test_a_model_whose_tokenizer_is_not_here_is_planned_by_characters(plan, root):
    folder = (root / "conf" / "tofu" / "llama-2-7b-chat").as_posix()
    found, printed = plan(
        {
            "experiment": {"methods": ["me_gd"], "n_tasks": 1, "finetuning": False},
            "base_model": {"pretrained": folder, "small_llama": None, "prompt": "llama2"},
            "plan": {"device_memory_gb": 80, "devices": 8},
        }
    )
    assert "tokens are counted as 4 characters each" in " ".join(printed.split())
    assert found["memory"]["ME+GD"]["verdict"] == "too large"
    assert found["memory"]["ME+GD"]["moments"] == 8 * 6_738_415_616
    refused, told = found["advice"]
    assert refused.startswith(
        "ME+GD surely does not fit: weights, gradients and moments take 107.8"
    )
    assert told == "ME+GD fits with --params unlearning.workers=2"
    assert found["disk"]["models"] == 4 * 6_738_415_616


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"efficiency": 0}, "efficiency: Input should be greater than 0"),
        ({"efficiency": 1.5}, "efficiency: Input should be less than or equal to 1"),
        ({"device_memory_gb": 0}, "device_memory_gb: Input should be greater than 0"),
        ({"devices": 0}, "devices: Input should be greater than 0"),
        ({"peak_tflops": float("inf")}, "peak_tflops: Input should be less than 1000000000"),
    ],
)
def test_impossible_hardware_is_refused(values, fault):
    with pytest.raises(ValueError, match=f"^{fault}$"):
        PlanParameters.model_validate(values)


def test_it_is_refused_at_the_start(kedro_run, tmp_path):
    with pytest.raises(InputError, match=r"^parameter plan: efficiency: .* greater than 0$"):
        kedro_run(tmp_path, "plan", parameters={"plan": {"efficiency": 0}})


def test_a_finished_run_stays_as_it_is(kedro_run, copied_run):
    kedro_run(copied_run, "plan", parameters=GIVEN)
    assert kedro_run(copied_run, "continual", only_missing_outputs=True) == []


def test_it_is_part_of_no_scenario(open_session, tmp_path):
    with open_session(tmp_path) as session:
        session.load_context()
        for name in ("__default__", "continual", "fictitious"):
            assert "estimate" not in pipelines[name].datasets()
