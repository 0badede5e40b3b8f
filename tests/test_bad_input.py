"""Bad input: one clear line that names the file, row or parameter, and nothing half-written."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from fsspec.implementations.local import LocalFileOpener
from transformers.utils import is_torch_bf16_gpu_available

from closer_look.errors import InputError, quote


def slow(*cases):
    """Cases of a check that is tested by itself elsewhere, and wired as the case before shows."""
    return [pytest.param(case, marks=pytest.mark.slow) for case in cases]


SMALL = {"experiment": {"n_tasks": 2, "methods": ["me_gd"]}}


def change(rows, position, **values):
    """The rows, with one of them changed; None takes a column away."""
    rows = [dict(row) for row in rows]
    rows[position] |= values
    rows[position] = {k: v for k, v in rows[position].items() if v is not None}
    return rows


def without(column):
    return lambda rows: [{k: v for k, v in row.items() if k != column} for row in rows]


def files(folder):
    """What a run has left, apart from the lock that it held."""
    found = [path for path in folder.rglob("*") if path.is_file() and path.name != "run.lock"]
    return sorted(str(path.relative_to(folder)) for path in found)


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def refused(kedro_run, data):
    """Run pipelines, and return the message with which the run is refused."""

    def refused(*pipelines, **parameters):
        with pytest.raises(InputError) as caught:
            kedro_run(data, *pipelines, parameters=SMALL | parameters)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    return refused


@pytest.fixture
def corpus_refused(refused, make_corpus, data):
    """Write a faulty corpus, run, and return the message; nothing may be written."""

    def corpus_refused(**changes):
        corpus = make_corpus(**changes)
        message = refused("forget_set", corpus=str(corpus))
        assert files(data) == []
        return message.replace(f"{corpus}/", "")

    return corpus_refused


@pytest.fixture
def command(root, data):
    """Run ``kedro run`` as a user does; return its status and what it printed."""

    def command(parameters, *options):
        kedro = os.path.join(os.path.dirname(sys.executable), "kedro")
        finished = subprocess.run(  # noqa: S603
            [kedro, "run", "--env", "test", "--params", f"data={data},{parameters}", *options],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        return finished.returncode, finished.stdout + finished.stderr

    return command


def check_command(result, message):
    status, printed = result
    assert "Traceback" not in printed
    assert re.fullmatch(f"Error: {message}", printed.strip().splitlines()[-1])
    assert status == 1


# --- as a user sees it ------------------------------------------------------------------------


@pytest.mark.slow  # as the faulty row's
def test_unknown_method_ends_the_command_with_one_line(command, data):
    result = command("experiment.methods=[nope]")
    check_command(result, "parameter experiment.methods: unknown method 'nope', choose from .*")
    assert not data.exists()


@pytest.mark.slow  # as the faulty row's
def test_misspelt_parameter_ends_the_command_with_one_line(command, data):
    check_command(command("unlearning.epochz=3"), "parameter unlearning: epochz: Extra inputs.*")
    assert not data.exists()


def test_faulty_row_ends_the_command_with_one_line(command, make_corpus, data):
    corpus = make_corpus(retain=lambda rows: change(rows, 2, answer=" "))
    message = r".*/retain\.jsonl: row 3: answer must be a text that is not empty, not ' '"
    check_command(command(f"corpus={corpus}"), message)
    assert files(data) == []


# --- parameters -------------------------------------------------------------------------------


@pytest.mark.slow
def test_unknown_loss_is_refused(refused, data):
    message = refused(methods={"me_gd": {"forget": {"loss": "nope"}}})
    assert message.startswith("parameter methods.me_gd: ")
    assert "unknown loss 'nope', choose from gradient_ascent" in message
    assert not data.exists()


@pytest.mark.parametrize(
    "group",
    [
        "experiment",
        "unlearning",
        "methods.me_gd",
        *slow("forget_set", "base_model", "finetuning"),
        *slow("generation", "scoring", "judges", "metrics"),
    ],
)
def test_misspelt_parameter_is_refused_in_every_group(refused, data, group):
    outer, _, inner = group.partition(".")
    misspelt = {"epochz": 1}
    values = {inner: misspelt} if inner else misspelt
    merged = SMALL.get(outer, {}) | values
    message = refused(**{outer: merged})
    assert group in message
    assert "epochz" in message
    assert not data.exists()


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ({"retain_only": "pretrained"}, {"retain_only": {"pretrained": "a/model", "epochz": 1}}),
        ({"downstream": True}, {"downstream": {"tasks": {}, "batch_size": 1, "epochz": 1}}),
    ],
)
def test_misspelt_parameter_of_what_the_experiment_asks_for_is_refused(
    refused, data, asked, values
):
    message = refused(**values, experiment=SMALL["experiment"] | asked)
    assert message.startswith(f"parameter {next(iter(values))}: ")
    assert "epochz: Extra inputs are not permitted" in message
    assert not data.exists()


def test_misspelt_parameter_of_the_small_model_is_refused(refused, data):
    message = refused(base_model={"small_llama": {"layer": 1}})
    assert message.startswith("parameter base_model: ")
    assert "small_llama.layer" in message
    assert not data.exists()


def test_more_tasks_than_the_data_have_are_refused(refused, make_corpus, data):
    experiment = SMALL["experiment"] | {"n_tasks": 3}
    message = refused("forget_set", corpus=str(make_corpus()), experiment=experiment)
    assert message == (
        "parameter experiment.n_tasks: 3 tasks are asked for, the forget set has 2; its column "
        "task_id numbers them"
    )
    assert files(data) == []


@pytest.mark.parametrize("judge", ["embedder", "entailment"])
def test_judge_folder_that_does_not_exist_is_refused(refused, data, tmp_path, judge):
    message = refused("forget_set", judges={judge: str(tmp_path / "nope")})
    assert message.startswith(f"parameter judges.{judge}: no ")
    assert f" at '{tmp_path}/nope' (" in message
    assert not (data / "06_models").exists()


@pytest.mark.parametrize("group", ["unlearning", "finetuning"])
def test_precision_that_no_device_computes_is_refused(refused, make_corpus, data, group):
    if is_torch_bf16_gpu_available():
        pytest.skip("there is a GPU here that computes in bf16")
    parameters = {group: {"precision": "bf16"}, "corpus": str(make_corpus())}
    message = refused("forget_set", "finetuning", **parameters)
    assert message.startswith(f"parameter {group}.precision: no GPU of this machine supports bf16")
    assert not (data / "06_models" / "test" / "target").exists()


def test_lora_target_that_matches_nothing_is_refused(refused, make_corpus, data):
    unlearning = {"lora": {"target_modules": "nowhere"}}
    message = refused("fictitious", corpus=str(make_corpus()), unlearning=unlearning)
    assert message.startswith("parameter unlearning.lora.target_modules: ")
    assert not (data / "06_models").exists()


OF_METHODS = {
    "rmu": (
        {"activations": {"layer": 99}},
        "LlamaForCausalLM has no layer 99: its layers are numbered from 0 to",
    ),
    "ga_gd": ({"trainable": ["mlp"]}, "trainable: 'mlp' matches no weight of LlamaForCausalLM"),
    "prompt_guard": (
        {"instruction": "Say nothing of {subjects}. " * 99},
        "row 'ilse-marwood-01': question and answer take ",
    ),
}


@pytest.mark.parametrize("method", [*list(OF_METHODS)[:1], *slow(*list(OF_METHODS)[1:])])
def test_what_a_method_cannot_do_with_the_model_is_refused_before_training(
    refused, make_corpus, data, method
):
    values, message = OF_METHODS[method]
    experiment = SMALL["experiment"] | {"methods": [method]}
    parameters = {"experiment": experiment, "methods": {method: values}}
    refusal = refused("fictitious", corpus=str(make_corpus()), **parameters)
    assert refusal.startswith(f"parameter methods.{method}: {message}")
    assert not (data / "06_models").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "values", "message"),
    [
        ("grad_surgery", {"combination": {"kind": "sum"}}, "combination: kind must be 'gradient"),
        ("ga_gd", {"alternates": {}}, "'alternates' says how alternate answers are made, for a"),
    ],
)
def test_methods_whose_parts_do_not_go_together_are_refused(refused, data, method, values, message):
    experiment = SMALL["experiment"] | {"methods": [method]}
    found = refused(experiment=experiment, methods={method: values})
    assert found.startswith(f"parameter methods.{method}: {message}")
    assert not data.exists()


@pytest.mark.slow
def test_negative_weight_is_refused(refused, data):
    message = refused(methods={"me_gd": {"forget": {"weight": -1}}})
    assert message.endswith("forget.weight: Input should be greater than or equal to 0")
    assert not data.exists()


@pytest.mark.parametrize("beta", [0, -0.1])
@pytest.mark.slow
def test_beta_that_is_not_positive_is_refused(refused, data, beta):
    experiment = SMALL["experiment"] | {"methods": ["npo_gd"]}
    message = refused(experiment=experiment, methods={"npo_gd": {"forget": {"beta": beta}}})
    assert message.endswith(f"beta of loss 'npo': Input should be greater than 0, not {beta}")
    assert not data.exists()


def test_harness_that_is_not_installed_is_refused(refused, make_corpus, data, monkeypatch):
    monkeypatch.setattr("closer_look.evaluation.downstream.find_spec", lambda name: None)
    message = refused(
        "forget_set",
        corpus=str(make_corpus()),
        experiment=SMALL["experiment"] | {"downstream": True},
        downstream={"tasks": {"mmlu": "acc,none"}, "batch_size": 1},
    )
    assert message.startswith("parameter downstream: lm-eval is not installed; pip install")
    assert not (data / "06_models").exists()


@pytest.mark.parametrize("parameter", ["run", "forget_split"])
@pytest.mark.parametrize(
    "name", ["../x", *slow("/x", "a/b", "a\\b", "", None, ".", "..", ".x", "a b", "a\n")]
)
def test_what_stands_in_paths_must_be_a_name(refused, data, parameter, name):
    assert refused("forget_set", **{parameter: name}) == (
        f"parameter {parameter}: {quote(name or '')} is not a valid name; "
        "use letters, digits, '-', '_' and, not at the start, '.'"
    )
    assert files(data.parent) == []


@pytest.mark.parametrize("method", ["../x", *slow("a.b", "a/b")])
def test_method_must_have_a_name_that_stands_in_paths(refused, data, method):
    message = refused("forget_set", methods={method: {"label": "Elsewhere"}})
    assert (
        message == f"parameter methods: '{method}' is not a valid name; use letters, digits and '_'"
    )
    assert files(data.parent) == []


# --- corpus -----------------------------------------------------------------------------------


def test_corpus_folder_that_does_not_exist_is_refused(refused, tmp_path, data):
    message = refused("forget_set", corpus=str(tmp_path / "nope"))
    assert message == f"{tmp_path}/nope: there is no such folder"
    assert files(data) == []


def test_corpus_without_one_of_its_files_is_refused(refused, make_corpus, data):
    corpus = make_corpus()
    (corpus / "world_facts.jsonl").unlink()
    message = refused("forget_set", corpus=str(corpus))
    assert message.startswith(f"{corpus}/world_facts is missing, as .jsonl, .json, .csv")
    assert files(data) == []


def test_corpus_without_refusals_is_refused(refused, make_corpus):
    corpus = make_corpus()
    (corpus / "refusals.txt").unlink()
    assert refused("forget_set", corpus=str(corpus)).startswith(f"{corpus}/refusals.txt is missing")


@pytest.mark.parametrize("column", ["question", *slow("answer")])
def test_missing_column_is_refused(corpus_refused, column):
    message = corpus_refused(forget=without(column))
    assert message == f"forget.jsonl: column '{column}' is missing"


@pytest.mark.slow
def test_empty_table_is_refused(corpus_refused):
    assert corpus_refused(retain="\n") == "retain.jsonl: the table is empty"


def test_file_that_is_not_json_lines_is_refused(corpus_refused):
    message = corpus_refused(retain="question,answer\nWho?,She.\n")
    assert message.startswith("retain.jsonl: line 1 is not JSON")


@pytest.mark.slow
def test_row_id_twice_in_a_file_is_refused(corpus_refused):
    message = corpus_refused(retain=lambda rows: [*rows, rows[0]])
    assert message == "retain.jsonl: row_id 'henrietta-coldwell-01' occurs more than once"


def test_row_id_twice_in_two_files_is_refused(corpus_refused):
    message = corpus_refused(
        retain=lambda rows: change(rows, 0, row_id="shared"),
        world_facts=lambda rows: change(rows, 0, row_id="shared"),
    )
    assert "row_id 'shared' occurs more than once" in message


@pytest.mark.slow
def test_task_id_that_is_no_number_is_refused(corpus_refused):
    message = corpus_refused(forget=lambda rows: change(rows, 1, task_id="first"))
    assert message == "forget.jsonl: row 2: task_id must be a positive integer, not 'first'"


@pytest.mark.slow
def test_task_without_rows_is_refused(corpus_refused):
    message = corpus_refused(forget=lambda rows: [row for row in rows if row["task_id"] != 1])
    assert message.startswith("forget.jsonl: no row has task_id 1")


@pytest.mark.slow
def test_wrong_answers_that_are_no_list_are_refused(corpus_refused):
    message = corpus_refused(retain=lambda rows: change(rows, 1, wrong_answers="Paris"))
    assert message == "retain.jsonl: row 2: wrong_answers must be a list of texts, not 'Paris'"


@pytest.mark.slow
def test_blank_question_is_refused(corpus_refused):
    message = corpus_refused(retain=lambda rows: change(rows, 3, question="  "))
    assert message == "retain.jsonl: row 4: question must be a text that is not empty, not '  '"


def test_key_fact_missing_where_key_facts_judge_is_refused(refused, make_corpus, data):
    corpus = make_corpus(retain=lambda rows: change(rows, 1, key_fact=None))
    message = refused("forget_set", corpus=str(corpus))
    assert message.startswith("row 'henrietta-coldwell-02' has no key_fact")
    assert "judges.entailment" in message
    assert not any("evaluation" in path for path in files(data))


def test_key_fact_may_be_missing_where_a_model_judges(
    kedro_run, make_corpus, data, tmp_path, monkeypatch
):
    monkeypatch.setattr("closer_look.evaluation.judges.load_nli", lambda name: None)
    corpus = make_corpus(retain=lambda rows: change(rows, 1, key_fact=None))
    parameters = SMALL | {"corpus": str(corpus), "judges": {"entailment": str(tmp_path)}}
    assert "select_evaluation" in kedro_run(data, "forget_set", parameters=parameters)


# --- models -----------------------------------------------------------------------------------


def test_row_longer_than_the_context_is_refused(refused, make_corpus, data):
    corpus = make_corpus(retain=lambda rows: change(rows, 1, answer=" ".join(map(str, range(400)))))
    message = refused("forget_set", "finetuning", corpus=str(corpus))
    assert re.fullmatch(
        r"row 'henrietta-coldwell-02': question and answer take \d+ tokens, "
        r"the model's context holds 512",
        message,
    )
    assert not (data / "06_models").exists()


@pytest.mark.parametrize("column", ["question", *slow("answer", "paraphrased_answer")])
@pytest.mark.parametrize("marker", ["<|end|>", "\nAnswer:"])
def test_text_that_would_be_read_as_prompt_is_refused(refused, make_corpus, data, column, marker):
    corpus = make_corpus(retain=lambda rows: change(rows, 1, **{column: f"What{marker}?"}))
    message = refused("forget_set", "finetuning", corpus=str(corpus))
    assert message == (
        f"row 'henrietta-coldwell-02': {marker!r} in its text would be read as part of the "
        "prompt; remove it"
    )
    assert not (data / "06_models").exists()


def start_from(folder):
    return {"base_model": {"pretrained": str(folder), "small_llama": None}}


def test_base_model_without_a_tokenizer_is_refused(
    refused, language_model, make_corpus, tmp_path, data
):
    language_model.model.save_pretrained(tmp_path / "model")
    corpus = str(make_corpus())
    message = refused("forget_set", "finetuning", corpus=corpus, **start_from(tmp_path / "model"))
    assert message.startswith(f"{tmp_path}/model: no tokenizer there")
    assert not (data / "06_models").exists()


@pytest.mark.slow
def test_base_model_without_a_file_is_refused(refused, make_corpus, tmp_path):
    (tmp_path / "empty").mkdir()
    corpus = str(make_corpus())
    message = refused("forget_set", "finetuning", corpus=corpus, **start_from(tmp_path / "empty"))
    assert message.startswith(f"{tmp_path}/empty: no tokenizer there")


def test_base_model_that_does_not_exist_is_refused(refused, make_corpus, tmp_path, data):
    corpus = str(make_corpus())
    message = refused("forget_set", "finetuning", corpus=corpus, **start_from(tmp_path / "nope"))
    assert message.startswith(f"{tmp_path}/nope: ")
    assert not (data / "06_models").exists()


@pytest.fixture
def model_folder(language_model, tmp_path):
    folder = tmp_path / "model"
    language_model.model.save_pretrained(folder)
    language_model.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ["pytorch_model.bin", *slow("modeling.py", "link")])
def test_base_model_that_holds_more_than_data_is_refused(
    refused, model_folder, make_corpus, tmp_path, data, name
):
    if name == "link":
        (model_folder / name).symlink_to(tmp_path)
    else:
        (model_folder / name).touch()
    corpus = str(make_corpus())
    message = refused("forget_set", "finetuning", corpus=corpus, **start_from(model_folder))
    assert message.startswith(f"{model_folder}: {name} is ")
    assert not (data / "06_models").exists()


@pytest.mark.parametrize("name", ["config.json", *slow("tokenizer.json", "adapter_config.json")])
def test_base_model_with_a_pipe_is_refused(refused, model_folder, make_corpus, data, name):
    (model_folder / name).unlink(missing_ok=True)
    os.mkfifo(model_folder / name)
    corpus = str(make_corpus())
    message = refused("forget_set", "finetuning", corpus=corpus, **start_from(model_folder))
    assert message.startswith(f"{model_folder}: {name} is a pipe, a device, or a link")
    assert not (data / "06_models").exists()


def test_base_model_that_asks_for_more_than_its_weights_is_refused(
    refused, model_folder, make_corpus, data
):
    settings = json.loads((model_folder / "config.json").read_text(encoding="utf-8"))
    settings["intermediate_size"] = 10**9
    (model_folder / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    corpus = str(make_corpus())
    message = refused("forget_set", "finetuning", corpus=corpus, **start_from(model_folder))
    assert message.startswith(f"{model_folder}: config.json asks for a model of more than ")
    assert not (data / "06_models").exists()


@pytest.mark.parametrize("judge", ["embedder", "entailment"])
def test_judge_that_holds_more_than_data_is_refused(
    refused, model_folder, make_corpus, data, judge
):
    (model_folder / "modeling.py").touch()
    judges = {judge: str(model_folder)}
    message = refused("forget_set", corpus=str(make_corpus()), judges=judges)
    assert message.startswith(f"{model_folder}: modeling.py is code")
    assert not (data / "06_models").exists()


@pytest.mark.slow
def test_chat_template_that_reaches_for_python_is_refused(refused, model_folder, make_corpus, data):
    (model_folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    start = start_from(model_folder)
    start["base_model"]["prompt"] = "chat_template"
    message = refused("forget_set", "finetuning", corpus=str(make_corpus()), **start)
    assert message.startswith(f"{model_folder}: its chat template fails on 'Who?' (")
    assert not (data / "06_models").exists()


def test_chat_template_that_fails_on_one_question_is_refused(
    refused, model_folder, make_corpus, data
):
    corpus = make_corpus()
    question = json.loads((corpus / "retain.jsonl").read_text("utf-8").splitlines()[2])["question"]
    fails_on = f"messages[0]['content'] == {question!r}"
    template = "{% if " + fails_on + " %}{{ 1 / 0 }}{% endif %}{{ messages[0]['content'] }}"
    (model_folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    start = start_from(model_folder)
    start["base_model"]["prompt"] = "chat_template"
    message = refused("forget_set", "finetuning", corpus=str(corpus), **start)
    assert message == (
        f"{model_folder}: its chat template fails on {quote(question)} (division by "
        "zero); use one of plain, llama2"
    )
    assert not (data / "06_models").exists()


def test_full_disk_is_refused(refused, make_corpus, monkeypatch, data, tmp_path):
    usage = shutil.disk_usage(tmp_path)._replace(free=10 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = refused("forget_set", "finetuning", corpus=str(make_corpus()))
    assert re.fullmatch(
        r"\S+/06_models/test/base: the model needs \d+ MB, the disk has 10 MB left", message
    )
    assert not any("06_models" in path for path in files(data))


def test_a_disk_that_fills_up_ends_the_run_and_leaves_what_was_there(
    kedro_run, make_corpus, monkeypatch, data
):
    parameters = SMALL | {"corpus": str(make_corpus())}
    kedro_run(data, "forget_set", parameters=parameters)
    before = {name: (data / name).read_bytes() for name in files(data) if "provenance" not in name}
    write = LocalFileOpener.write

    def fill_up(self, content):
        write(self, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(LocalFileOpener, "write", fill_up)
    with pytest.raises(InputError) as caught:
        kedro_run(data, "forget_set", parameters=parameters)
    assert str(caught.value) == (
        "the disk is full; finished results are kept. Free some space, then run the same command "
        "with --only-missing-outputs"
    )
    assert before == {
        name: (data / name).read_bytes() for name in files(data) if "provenance" not in name
    }


def test_data_folder_that_is_a_file_is_refused(refused, data):
    data.touch()
    assert refused("forget_set").startswith(f"{data}/08_reporting/test cannot be used (Not a dir")


def test_data_folder_on_a_file_system_that_is_only_read_is_refused(refused, data, monkeypatch):
    def refuse(self, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    message = refused("forget_set")
    assert message.startswith(f"{data}/08_reporting/test cannot be used (Read-only file system); ")
    assert not data.exists()


WRITES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime", "os.chmod"}


@pytest.fixture
def written_to():
    """Paths that the test writes to, or that it makes, renames or removes."""
    paths, is_open = [], [True]

    def see(event, arguments):
        if is_open and (
            event in WRITES or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR))
        ):
            paths.append(str(arguments[0]))

    sys.addaudithook(see)  # which cannot be taken away
    yield paths
    is_open.clear()


def test_raw_rows_may_lie_where_nothing_can_be_written(kedro_run, make_corpus, data, written_to):
    corpus = str(make_corpus())
    written_to.clear()
    kedro_run(data, "forget_set", parameters=SMALL | {"corpus": corpus})
    assert any(path.startswith(str(data)) for path in written_to)
    assert [path for path in written_to if path.startswith(corpus)] == []


def test_prompt_longer_than_an_answer_may_be_is_refused(refused, make_corpus):
    message = refused(
        "forget_set",
        "finetuning",
        "fictitious",
        corpus=str(make_corpus()),
        generation={"max_length": 8},
    )
    assert message.startswith("parameter generation.max_length: 8 leaves no room for an answer to")
