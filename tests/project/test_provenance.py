"""What is taken up again is what the run would make, or the run is refused."""

import inspect
import json
import re
import shutil
import signal
import subprocess
import sys

import huggingface_hub
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node

from closer_look.datasets.provenance_dataset import ProvenanceDataset
from closer_look.errors import InputError
from closer_look.evaluation.judges import BUNDLED_EMBEDDER, load_embedder
from closer_look.losses import FORGET
from closer_look.parameters.methods import MethodParameters
from closer_look.parameters.training import UnlearningParameters
from closer_look.pipelines import finetuning, forget_set, unlearning
from closer_look.project import dependencies, provenance

SHAPE = {"experiment": {"methods": ["ga_gd", "me_gd", "idk_ap"], "n_tasks": 2}}  # of conf/test
MODEL = "06_models/test/continual/ga_gd.task_01"


@pytest.fixture
def data(copied_run):
    return copied_run


@pytest.fixture
def resume(kedro_run, data):
    """Take the run up again, with other parameters, and return the nodes that ran."""

    def resume(*pipelines, only_missing_outputs=True, **changes):
        experiment = SHAPE["experiment"] | changes.pop("experiment", {})
        return kedro_run(
            data,
            *(pipelines or ["continual"]),
            parameters={"experiment": experiment, **changes},
            only_missing_outputs=only_missing_outputs,
        )

    return resume


@pytest.fixture
def refused(resume):
    """The first difference and the nodes from which it is mended."""

    def refused(**changes):
        with pytest.raises(InputError) as caught:
            resume(**changes)
        difference, from_nodes, rest = re.fullmatch(
            r"(.*); --from-nodes=(\S+) makes anew what depends on it(.*)", str(caught.value)
        ).groups()
        assert rest == ", --params run=NAME begins another run"
        return difference, from_nodes.split(",")

    return refused


def remove(data, pattern):
    found = [path for path in data.rglob("*") if path.match(pattern)]
    assert found
    for path in found:
        shutil.rmtree(path)


# --- what is refused ---------------------------------------------------------------------------


def test_other_learning_rate_is_refused_and_mended_without_training_the_target_model(
    refused, kedro_run, data
):
    changed = {"unlearning": {"learning_rate": 0.002}}
    difference, nodes = refused(**changed)
    assert re.fullmatch(
        r"continual\.\w+\.task_01\.model was made with unlearning\.learning_rate 0\.0005, "
        r"which is 0\.002 now",
        difference,
    )
    unlearn = [f"continual.{method}.task_01.unlearn" for method in ("ga_gd", "idk_ap", "me_gd")]
    assert nodes == ["continual.record_run", *unlearn]
    ran = kedro_run(data, "continual", parameters=SHAPE | changed, from_nodes=nodes)
    assert "continual.idk_ap.task_02.unlearn" in ran
    assert "finetune" not in ran
    assert kedro_run(data, "continual", parameters=SHAPE | changed, only_missing_outputs=True) == []


def test_many_nodes_are_named_by_patterns_that_a_run_understands(
    refused, kedro_run, data, monkeypatch
):
    monkeypatch.setattr(provenance, "MOST_NAMED", 3)
    changed = {"unlearning": {"learning_rate": 0.002}}
    _, nodes = refused(**changed)
    assert ",".join(nodes) == '"continual.record_run,continual.*.unlearn"'
    only = "continual.ga_gd.task_02.unlearn"
    ran = kedro_run(
        data,
        "continual",
        parameters=SHAPE | changed,
        from_nodes=[name.strip('"') for name in nodes],
        to_nodes=[only],
        tags=["unlearning"],
    )
    assert ran == [only.replace("02", "01"), only]


def test_edited_rows_are_refused(kedro_run, make_corpus, tmp_path):
    corpus = make_corpus()
    parameters = SHAPE | {"corpus": str(corpus)}
    kedro_run(tmp_path / "run", "forget_set", parameters=parameters)
    retain = corpus / "retain.jsonl"
    retain.write_text(retain.read_text("utf-8").replace("?", "??"), "utf-8")
    with pytest.raises(InputError, match="questions was made from another raw_retain than"):
        kedro_run(tmp_path / "run", "forget_set", parameters=parameters, only_missing_outputs=True)


def test_a_model_that_was_put_in_the_place_of_another_is_refused(refused, data):
    shutil.rmtree(data / MODEL)
    shutil.copytree(data / MODEL.replace("ga_gd", "idk_ap"), data / MODEL)
    difference, nodes = refused()
    assert difference == "continual.ga_gd.task_01.model is not what was made"
    assert nodes == ["continual.ga_gd.task_01.unlearn"]


def test_a_middle_model_that_was_made_otherwise_is_refused(refused, kedro_run, data):
    changed = SHAPE | {"unlearning": {"learning_rate": 0.002}}
    kedro_run(data, "continual", parameters=changed, node_names=["continual.ga_gd.task_01.unlearn"])
    difference, nodes = refused()  # with the former rate
    assert difference.startswith("continual.ga_gd.task_01.model was made with unlearning.learning")
    assert nodes == ["continual.ga_gd.task_01.unlearn"]
    kedro_run(data, "continual", parameters=SHAPE, node_names=["continual.ga_gd.task_01.unlearn"])


@pytest.fixture
def other_weights(monkeypatch):
    """Let models come out otherwise."""
    from closer_look.training import unlearning

    def other(*args, **kwargs):
        import torch

        model, log = unlearn(*args, **kwargs)
        with torch.no_grad():
            next(model.model.parameters()).add_(0.1)
        return model, log

    unlearn = unlearning.unlearn
    monkeypatch.setattr(unlearning, "unlearn", other)


@pytest.mark.usefixtures("other_weights")
def test_a_middle_model_that_came_out_otherwise_is_refused_though_it_was_deleted(kedro_run, data):
    kedro_run(data, "continual", parameters=SHAPE, node_names=["continual.ga_gd.task_01.unlearn"])
    remove(data, MODEL)
    with pytest.raises(
        InputError, match=r"was made from another continual\.ga_gd\.task_01\.model than"
    ):
        kedro_run(data, "continual", parameters=SHAPE, tags=["reporting"])


@pytest.mark.usefixtures("other_weights")
def test_a_middle_model_that_comes_out_otherwise_ends_the_run(resume, data):
    remove(data, MODEL)
    with pytest.raises(InputError) as caught:
        resume()
    assert re.match(
        r"continual\.ga_gd\.task_01\.model is another one than that from which "
        r"continual\.ga_gd\.task_0[12]\.\w+ has worked; --from-nodes=",
        str(caught.value),
    )


def test_a_middle_model_that_is_made_again_as_it_was_is_no_fault(resume, data):
    remove(data, MODEL)
    assert resume() == ["continual.ga_gd.task_01.unlearn"]


def test_a_longer_chain_is_refused_with_an_old_report(refused):
    difference, nodes = refused(experiment={"n_tasks": 3})
    assert difference == "questions was made with experiment.n_tasks 2, which is 3 now"
    assert nodes == ["collect_questions", "continual.record_run"]


@pytest.mark.slow
def test_one_method_more_is_refused_with_an_old_report_and_mended_without_the_others(
    refused, kedro_run, data
):
    more = [*SHAPE["experiment"]["methods"], "npo_gd"]
    methods = {"experiment": {"methods": more, "n_tasks": 2}}
    difference, nodes = refused(**methods)
    assert re.fullmatch(r"continual\.\w+ was made without continual\.npo_gd\.\S+", difference)
    assert nodes == ["continual.record_run", "continual.npo_gd.task_01.score_reference"]
    ran = kedro_run(data, "continual", parameters=methods, from_nodes=nodes)
    assert "continual.write_report" in ran
    assert not [node for node in ran if "ga_gd" in node or node == "finetune"]
    remove(data, "reference_cache")  # results do not depend on it
    assert kedro_run(data, "continual", parameters=methods, only_missing_outputs=True) == []


@pytest.mark.slow
def test_one_method_less_is_refused_with_an_old_report_and_mended_without_training(
    refused, kedro_run, open_session, data
):
    fewer = {"experiment": {"methods": ["ga_gd", "me_gd"], "n_tasks": 2}}
    difference, nodes = refused(**fewer)
    assert re.fullmatch(r"continual\.\w+ was made with \S*idk_ap\S* .*", difference)
    ran = kedro_run(data, "continual", parameters=fewer, from_nodes=nodes)
    assert not [node for node in ran if not re.fullmatch(r"continual\.\w+", node)]
    with open_session(data, fewer) as session:
        summary = session.load_context().catalog.load("continual.summary")
    assert "idk_ap" not in set(summary["method"])
    assert kedro_run(data, "continual", parameters=fewer, only_missing_outputs=True) == []


@pytest.mark.parametrize(
    ("changed", "first"),
    [
        ({"unlearning": {"epochs": 2}}, "draw_plans"),
        ({"forget_set": {"pairing": "fixed"}}, "draw_plans"),
        ({"forget_set": {"evaluation_rows": 3}}, "select_evaluation"),
    ],
)
def test_a_changed_parameter_is_mended_from_where_it_is_first_read(refused, changed, first):
    assert first in refused(**changed)[1]


def test_nodes_say_what_they_take_of_their_parameters():
    only_to_refuse = {
        ("draw_plans", "unlearning", "precision"),
        ("hold_out", "experiment", "membership"),
        ("initialise", "generation", "max_length"),
        ("initialise", "unlearning", "lora"),
        ("select_evaluation", "judges", "embedder"),
        ("select_evaluation", "judges", "entailment"),
        ("take_pretrained", "experiment", "finetuning"),
    }
    said, taken = set(), set()
    for nodes in (forget_set.nodes, finetuning.nodes, unlearning.nodes):
        for function in vars(nodes).values():
            for group, fields in getattr(function, "depends_on", {}).items():
                said |= {(function.__name__, group, field) for field in fields}
                code = inspect.getsource(function)
                found = re.findall(rf"\b{group}\.(\w+)", code.partition(":\n")[2])
                taken |= {(function.__name__, group, field) for field in found}
    assert len(said) >= 8
    assert taken - only_to_refuse == said


def test_parameters_count_alike_where_kedro_has_not_made_them_models():
    """It does so only for the pipelines that it runs; others are compared all the same."""
    losses = {"forget": {"loss": "npo", "beta": 0.1}, "retain": {"loss": "kl"}}
    values = {
        "params:methods.npo_kl": {"label": "NPO+KL"} | losses,
        "params:unlearning": {"learning_rate": 1e-3, "epochs": 2, "batch_size": 4, "seed": 1},
    }
    models = {
        "params:methods.npo_kl": MethodParameters(**values["params:methods.npo_kl"]),
        "params:unlearning": UnlearningParameters(**values["params:unlearning"]),
    }
    for given in (values, models):
        given["model"] = 1
    node = Node(lambda method, unlearning: 1, [*values][:2], "model", name="unlearn")
    plain, typed = (
        dependencies.dependencies(node, DataCatalog({k: MemoryDataset(v) for k, v in one.items()}))
        for one in (values, models)
    )
    assert plain == typed
    assert "loss npo" in plain["code"]
    assert plain["parameters"]["unlearning"]["weight_decay"] == 0.01


def test_other_code_is_refused(refused, monkeypatch):
    code_fingerprint = dependencies.code_fingerprint

    def other(function):
        code = code_fingerprint(function)
        return code | {"generate": "other"} if "generate" in code else code

    monkeypatch.setattr(dependencies, "code_fingerprint", other)
    difference, nodes = refused()
    assert difference.endswith("generations was made by other code of generate")
    assert "continual.before.generate_answers" in nodes
    assert not {"finetune", "continual.ga_gd.task_01.unlearn"} & set(nodes)


def test_other_code_of_a_loss_is_refused_where_it_is_used(refused, monkeypatch):
    monkeypatch.setitem(FORGET, "gradient_ascent", FORGET["maximum_entropy"])
    difference, nodes = refused()
    assert re.fullmatch(
        r"continual\.ga_gd\.task_01\.\w+ was made by other code of loss gradient_ascent", difference
    )
    assert not [node for node in nodes if "ga_gd" not in node]


@pytest.fixture(params=["folder", pytest.param("hub", marks=pytest.mark.slow)])
def judge(request, tmp_path, monkeypatch):
    """Name of an entailment model, and a function that puts weights under it."""
    if request.param == "folder":
        weights = tmp_path / "judge" / "model.safetensors"
        weights.parent.mkdir()
        weights.write_text("one")
        return str(weights.parent), weights.write_text
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    repository = tmp_path / "models--someone--judge"

    def download(weights):
        revision = weights.encode().hex().ljust(40, "0")
        (repository / "snapshots" / revision).mkdir(parents=True, exist_ok=True)
        for file in ("config.json", "model.safetensors"):
            (repository / "snapshots" / revision / file).write_text(weights)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / "main").write_text(revision)

    return "someone/judge", download


@pytest.mark.slow
def test_another_model_under_the_judge_s_name_is_refused(
    kedro_run, data, judge, monkeypatch, refused, resume
):
    name, put = judge

    def entails(premises, *_):
        put("one")  # the first time that it is loaded, the hub's is downloaded
        return [True] * len(premises)

    monkeypatch.setattr(
        "closer_look.evaluation.judges.load_nli", lambda name: load_embedder(BUNDLED_EMBEDDER)
    )
    monkeypatch.setattr("closer_look.evaluation.judges.entails", entails)
    changed = {"judges": {"entailment": name}}
    _, nodes = refused(**changed)
    kedro_run(data, "continual", parameters=SHAPE | changed, from_nodes=nodes)
    assert resume(**changed) == []
    put("other")
    difference, _ = refused(**changed)
    assert re.fullmatch(
        r"continual\.\S+ was made from another judges\.entailment than there is now",
        difference,
    )


def test_an_artefact_without_a_record_is_refused(refused, data):
    next(data.rglob("provenance.jsonl")).unlink()
    difference, nodes = refused()
    assert difference.startswith("there is no record of how questions was made")
    assert "collect_questions" in nodes


@pytest.mark.slow
def test_a_part_of_the_pipeline_is_refused_on_what_no_longer_holds(kedro_run, data):
    changed = SHAPE | {"metrics": {"resamples": 30}}
    with pytest.raises(
        InputError, match=r"metrics was made with metrics\.resamples 20, which is 30"
    ):
        kedro_run(data, "continual", parameters=changed, tags=["reporting"])
    assert "finetune" in kedro_run(data, "continual", parameters=changed)  # nothing is used


def test_a_part_of_the_pipeline_is_refused_on_what_is_far_behind_it(kedro_run, data):
    changed = SHAPE | {"base_model": {"small_llama": {"seed": 7}}}
    with pytest.raises(InputError, match=r"base_model was made with base_model\.small_llama\.seed"):
        kedro_run(data, "continual", parameters=changed, tags=["reporting"])


# --- the record --------------------------------------------------------------------------------


def test_every_artefact_has_a_fingerprint_of_itself_and_of_what_it_came_from(
    whole_run, load_result
):
    records = load_result(whole_run.data, "provenance")
    lines = {line["node"]: line for line in records if "outputs" in line}
    unlearn = lines["continual.ga_gd.task_02.unlearn"]
    model = "continual.ga_gd.task_01.model"
    assert unlearn["inputs"][model] == lines["continual.ga_gd.task_01.unlearn"]["outputs"][model]
    assert unlearn["parameters"]["unlearning"]["seed"] == 1001
    losses = {"loss gradient_ascent", "loss gradient_descent"}
    assert {"unlearn", "train"} | losses <= set(unlearn["code"])
    assert set(unlearn["outputs"]) == {
        "continual.ga_gd.task_02.model",
        "continual.ga_gd.task_02.training_log",
    }
    assert "raw_retain" in lines["collect_questions"]["inputs"]


SAVING = """
import os, signal, sys
from pathlib import Path
from closer_look.datasets.provenance_dataset import ProvenanceDataset
from closer_look.project.session import Session
from kedro.framework.startup import bootstrap_project

def killed(self, line):
    if line["node"] == "initialise" and "outputs" in line:
        os.kill(os.getpid(), signal.SIGKILL)
    save(self, line)

save = ProvenanceDataset.save
ProvenanceDataset.save = killed
bootstrap_project(Path(sys.argv[1]))
with Session.create(sys.argv[1], env="test", runtime_params={"data": sys.argv[2]}) as session:
    session.run(pipeline_names=["forget_set", "finetuning"])
"""


@pytest.mark.slow
def test_a_node_killed_before_it_could_say_what_it_had_made_is_not_made_again(
    root, kedro_run, tmp_path
):
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", SAVING, str(root), tmp_path.as_posix()], check=False
    )
    assert done.returncode == -signal.SIGKILL
    ran = kedro_run(tmp_path, "forget_set", "finetuning", only_missing_outputs=True)
    assert "finetune" in ran
    assert "initialise" not in ran


@pytest.mark.slow
def test_an_old_artefact_of_a_node_killed_before_it_saved_is_taken_for_what_it_is(
    kedro_run, tmp_path
):
    changed = {"base_model": {"small_llama": {"seed": 7}}}
    kedro_run(tmp_path, "forget_set", "finetuning", parameters=changed)
    lines = next(tmp_path.rglob("provenance.jsonl"))
    begun = [line for line in lines.read_text("utf-8").splitlines() if '"before"' in line]
    initialise = next(line for line in reversed(begun) if '"initialise"' in line)
    kedro_run(tmp_path, "forget_set", "finetuning")
    before = json.loads(initialise)
    dataset = ProvenanceDataset(filepath=str(lines))
    now = [line for line in dataset.load() if line["node"] == "initialise"][-1]["outputs"]
    dataset.save(before | {"before": now})  # it was about to replace what is there
    with pytest.raises(InputError, match=r"base_model was made with base_model\.small_llama\.seed"):
        kedro_run(
            *(tmp_path, "forget_set", "finetuning"), parameters=changed, only_missing_outputs=True
        )
