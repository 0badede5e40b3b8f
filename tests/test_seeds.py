"""A run with seeds: its chains are those of runs with one seed each, and it grows by a seed."""

import re
import shutil

import pytest

from closer_look.errors import InputError

SEEDS = {"methods": ["me_gd"], "seeds": [1001, 1002]}
MODEL = "fictitious.me_gd.seed_{}.task_01.model"


@pytest.fixture(scope="module")
def seeded_run(kedro_run, whole_run, once):
    """A finished run of one method and task with two seeds, beside the target model of another."""

    def make(folder):
        shutil.copytree(whole_run.data, folder, dirs_exist_ok=True)
        kedro_run(folder, "fictitious", parameters={"experiment": SEEDS}, only_missing_outputs=True)

    return once("seeded_run", make)


def weights(load_result, data, name):
    return load_result(data, name).model.state_dict()


def are_equal(one, other):
    return all(one[key].equal(other[key]) for key in one)


def test_the_seed_of_the_parameters_gives_the_model_of_the_parameters(
    seeded_run, whole_run, load_result
):
    of_seeds = [weights(load_result, seeded_run, MODEL.format(seed)) for seed in (1001, 1002)]
    # conf/base has seed 1001, and its runs have no seed in their names.
    of_parameters = weights(load_result, whole_run.data, "continual.me_gd.task_01.model")
    assert are_equal(of_seeds[0], of_parameters)
    assert not are_equal(of_seeds[1], of_parameters)


def test_every_seed_has_its_plan_and_all_start_from_one_target_model(seeded_run, load_result):
    plans = [load_result(seeded_run, f"plan_seed_{seed}_task_01") for seed in (1001, 1002)]
    assert plans[0].equals(load_result(seeded_run, "plan_task_01"))
    assert not plans[0]["retain_row_id"].equals(plans[1]["retain_row_id"])
    assert len([*seeded_run.rglob("target")]) == 1


def test_each_seed_may_have_a_target_model_of_its_own(seeded_run, kedro_run, load_result, tmp_path):
    shape = {"experiment": SEEDS | {"seed_target": True}}
    models = [MODEL.format(seed) for seed in (1001, 1002)]
    ran = kedro_run(tmp_path / "seeds", "fictitious", parameters=shape, to_outputs=models)
    assert {"initialise", "finetune", "initialise_seed_1002", "finetune_seed_1002"} < {*ran}
    other = {"base_model": {"small_llama": {"seed": 1002}}, "finetuning": {"seed": 1002}}
    one_seed = {"experiment": SEEDS | {"seeds": [1002]}} | other
    kedro_run(tmp_path / "one", "fictitious", parameters=one_seed, to_outputs=models[1:])

    def equal(name, data, named):
        of_seeds = weights(load_result, tmp_path / "seeds", name)
        return are_equal(of_seeds, weights(load_result, data, named))

    assert equal("target_model", seeded_run, "target_model")
    assert equal("target_model_seed_1002", tmp_path / "one", "target_model")
    assert equal(models[0], seeded_run, models[0])
    assert equal(models[1], tmp_path / "one", models[1])


def test_the_report_tells_both_intervals_apart(seeded_run, load_result):
    table = load_result(seeded_run, "fictitious.summary_table").set_index("method")
    assert table.loc["ME+GD", "n_seeds"] == 2
    assert table["forget_efficacy_seed_low"].notna().tolist() == [False, True]
    page = " ".join(load_result(seeded_run, "fictitious.report").split())
    assert "Each method was trained 2 times, with the seeds 1001 and 1002" in page
    assert "the one <b>over questions</b>" in page
    assert "the one <b>over seeds</b>" in page
    assert "Answers are those of seed 1001." in page


def test_the_exported_model_is_that_of_the_first_seed_and_so_are_its_numbers(
    seeded_run, kedro_run, load_result, tmp_path
):
    kedro_run(seeded_run, "export_fictitious", parameters={"experiment": SEEDS})
    card = (seeded_run / "09_export/test/fictitious/me_gd.seed_1001.task_01/README.md").read_text()
    rows = load_result(seeded_run, "fictitious.seed_table").query("seed == 1001")
    assert f"{rows['forget_efficacy'].item():.3f} (" in card
    assert "\nseed: 1001\n" in card


def test_another_seed_trains_that_one_alone(seeded_run, kedro_run, tmp_path):
    data = shutil.copytree(seeded_run, tmp_path / "grown")
    grown = {"experiment": SEEDS | {"seeds": [1001, 1002, 1003]}}
    with pytest.raises(InputError) as caught:
        kedro_run(data, "fictitious", parameters=grown, only_missing_outputs=True)
    from_nodes = re.search(r'--from-nodes="?([^" ]+)', str(caught.value))[1].split(",")
    ran = kedro_run(data, "fictitious", parameters=grown, from_nodes=from_nodes)
    assert [name for name in ran if "unlearn" in name] == [
        "fictitious.me_gd.seed_1003.task_01.unlearn"
    ]
    assert "fictitious.write_report" in ran
