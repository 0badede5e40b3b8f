"""What a run can start from: quantised models and adapters are taken for what they are."""

import copy
import json
import os

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING

from closer_look.errors import InputError
from closer_look.inference.scoring import score
from closer_look.models.adapters import with_adapter
from closer_look.models.base_model import check_base, check_quantisation
from closer_look.models.export import check_export, prepare
from closer_look.models.language_model import (
    LanguageModel,
    PretrainedModel,
    load_language_model,
    load_pretrained,
    model_fingerprint,
)
from closer_look.models.readiness import check_adapters, check_model
from closer_look.parameters.models import ExportParameters
from closer_look.parameters.training import LoraParameters

LORA = LoraParameters(rank=4, alpha=8)
FOUR_BIT = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
METHODS = {name: {"quant_method": name} for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
METHODS = {name: one for name, one in METHODS.items() if not name.startswith("bitsandbytes")}
METHODS["bitsandbytes"] = {"quant_method": "bitsandbytes", "load_in_8bit": True}


@pytest.fixture
def folder(language_model, tmp_path):
    language_model.model.save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


@pytest.fixture
def adapters(folder, language_model, tmp_path):
    """A folder of adapters that have learned something, on the model in ``folder``."""
    model = copy.deepcopy(language_model.model)
    model.name_or_path = str(folder)
    config = LoraConfig(target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, config).save_pretrained(tmp_path / "adapters")
    language_model.tokenizer.save_pretrained(tmp_path / "adapters")
    return tmp_path / "adapters"


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("place", ["model", "text part", "base of adapters"])
def test_quantised_weights_are_refused_by_name_and_not_read(folder, adapters, method, place):
    config = {"quantization_config": METHODS[method]}
    change(folder / "config.json", **({"text_config": config} if place == "text part" else config))
    (folder / "model.safetensors").unlink()
    name = str(adapters if place == "base of adapters" else folder)
    with pytest.raises(InputError, match=f"^{name}: its weights are quantised .'{method}'.*; use "):
        load_language_model(name)


@pytest.mark.parametrize(("finetuning", "lora"), [(True, LORA), (True, None), (False, None)])
def test_quantised_weights_are_never_trained_themselves(folder, finetuning, lora):
    change(folder / "config.json", quantization_config=FOUR_BIT)
    with pytest.raises(
        InputError, match=r"4-bit\) and cannot be trained itself; set experiment\.fine"
    ):
        check_base(str(folder), finetuning, lora)
    check_base(str(folder), False, LORA)


def test_a_model_that_is_not_there_is_left_to_who_loads_it(tmp_path):
    check_base(str(tmp_path / "nope"), True, None)
    with pytest.raises(InputError, match="nope: no tokenizer there"):
        load_pretrained(PretrainedModel(str(tmp_path / "nope"), "plain"))


@pytest.mark.parametrize("content", ["", "{}", "[]", '"x"', '{"model_type": 3}'])
@pytest.mark.parametrize("file", ["config.json", "adapter_config.json"])
def test_broken_files_are_left_to_who_loads_them(folder, file, content):
    (folder / file).write_text(content)
    with pytest.raises(InputError) as caught:
        check_base(str(folder), True, None)
        load_pretrained(PretrainedModel(str(folder), "plain"))
    assert str(caught.value).startswith(f"{folder}: ")


def test_folder_is_looked_at_before_anything_is_read(folder):
    os.truncate(folder / "config.json", 2**30)
    with pytest.raises(InputError, match=r"config\.json is larger than 100 MB"):
        check_base(str(folder), finetuning=True, lora=None)


def test_whole_models_may_be_trained_in_any_way(folder):
    for finetuning in (True, False):
        for lora in (None, LORA):
            check_base(str(folder), finetuning, lora)


def test_adapters_are_merged_into_their_model_and_all_of_it_is_trained(adapters):
    model = load_language_model(str(adapters)).model.eval()
    merged = load_pretrained(PretrainedModel(str(adapters), "chat_template")).model.eval()
    check_base(str(adapters), True, LORA)
    check_base(str(adapters), False, None)
    text = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        logits = merged(text).logits
        torch.testing.assert_close(logits, model(text).logits, rtol=1e-3, atol=1e-3)
        with model.disable_adapter():
            assert not torch.allclose(logits, model(text).logits, atol=0.1)
    assert all(weight.requires_grad for weight in merged.parameters())
    assert not [name for name in merged.state_dict() if "lora" in name]


def test_a_token_without_embedding_gets_none_under_adapters(adapters, language_model):
    tokenizer = copy.deepcopy(language_model.tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    tokenizer.save_pretrained(adapters)
    model = load_language_model(str(adapters)).model
    assert model.get_input_embeddings().weight.shape == (300, 16)


def test_weights_that_are_missing_under_adapters_are_not_made_up(adapters, folder):
    weights = load_file(folder / "model.safetensors")
    weights.pop("model.norm.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"1 of its weights are missing, such as model\.norm\.we"):
        load_language_model(str(adapters))


def test_adapters_of_a_classifier_are_refused(adapters):
    change(adapters / "adapter_config.json", task_type="SEQ_CLS")
    with pytest.raises(InputError, match=r"no causal language model there \(adapters for 'SEQ_CLS"):
        load_language_model(str(adapters))


def test_no_adapters_are_put_on_top_of_others(adapters):
    with pytest.raises(InputError, match=r"its adapters would lie under those of unlearning\.lora"):
        check_base(str(adapters), False, LORA)


def test_adapters_of_a_quantised_model_are_not_merged(adapters, folder):
    change(folder / "config.json", quantization_config=FOUR_BIT)
    for finetuning, lora in [(True, None), (False, LORA)]:
        with pytest.raises(InputError, match="its adapters stand on a quantised model"):
            check_base(str(adapters), finetuning, lora)


def test_adapters_that_are_not_lora_are_refused(folder, language_model, tmp_path):
    model = copy.deepcopy(language_model.model)
    prompt = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(model, prompt).save_pretrained(tmp_path / "prompt")
    with pytest.raises(InputError, match="adapters of type 'PROMPT_TUNING' are not supported"):
        check_base(str(tmp_path / "prompt"), True, None)


def test_package_that_reads_four_bits_is_named(folder, monkeypatch):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": FOUR_BIT}))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"4-bit; pip install 'closer-look\[quantised\]'"):
        check_quantisation(str(folder))


@pytest.fixture
def four_bits(folder, make_family):
    """A model whose layers have 4 bits a weight, as its folder says they compute in bf16."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    sizes = {"hidden_size": 64, "intermediate_size": 64, "head_dim": 16}
    make_family("llama", **sizes).model.save_pretrained(folder)
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings)
    model.save_pretrained(folder)
    return load_pretrained(PretrainedModel(str(folder), "plain"))


def test_a_model_of_four_bits_stays_what_it_is(four_bits):
    model, text = four_bits.model, torch.tensor([[3, 4, 5, 6]])
    before = model_fingerprint(four_bits)
    assert sum(weight.dtype == torch.uint8 for weight in model.parameters()) == 2 * 7
    with torch.no_grad():
        logits = [model.train(training)(text).logits for training in (True, False, True)]
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(logits[0], logits[2])
    assert model_fingerprint(check_adapters(four_bits, LORA)) == before


def test_adapters_learn_on_a_frozen_model_of_four_bits(
    four_bits, make_questions, unlearn_first_task, tmp_path
):
    before = model_fingerprint(four_bits)
    questions = make_questions(("forget", 1, 4), ("retain", 0, 4))
    unlearned, log = unlearn_first_task(four_bits, questions, "npo", "kl", lora=LORA)
    assert log["forget_loss"].iloc[-1] < log["forget_loss"].iloc[0]
    unlearned.model.save_pretrained(tmp_path / "unlearned")
    unlearned.tokenizer.save_pretrained(tmp_path / "unlearned")
    again = load_language_model(str(tmp_path / "unlearned"))
    text = torch.tensor([[3, 4, 5, 6]])
    with torch.no_grad():
        expected = unlearned.model.eval()(text).logits
        torch.testing.assert_close(again.model.eval()(text).logits, expected)
    assert model_fingerprint(LanguageModel(again.model.unload(), again.tokenizer)) == before


def test_adapters_on_a_model_of_four_bits_are_exported_apart(four_bits):
    """Merged, the weights are rounded to four bits again, and the unlearning with them."""
    merged, separate = (ExportParameters(adapters=kind) for kind in ("merged", "separate"))
    with pytest.raises(InputError, match=r"weights are quantised.*set export\.adapters=separate$"):
        check_export(four_bits, merged)  # before any unlearning
    adapted = with_adapter(four_bits, LORA)
    with pytest.raises(InputError, match=r"weights are quantised.*set export\.adapters=separate$"):
        prepare(adapted, merged)
    assert prepare(adapted, separate).model is adapted.model


def test_adapters_on_a_model_of_four_bits_are_measured_as_they_are(four_bits, tmp_path):
    """As ``models`` and ``retain_only.pretrained`` load them."""
    adapted = with_adapter(four_bits, LORA.model_copy(update={"dropout": 0.0}))
    with torch.no_grad():
        for name, weight in adapted.model.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.01)
    adapted.model.save_pretrained(tmp_path / "adapted")
    adapted.tokenizer.save_pretrained(tmp_path / "adapted")
    measured = load_pretrained(PretrainedModel(str(tmp_path / "adapted"), "chat_template"))
    check_model(measured)
    answers = ["She did.", "Nobody."]
    scores = [score(one, ["Who?", "Where?"], answers, batch_size=2) for one in (adapted, measured)]
    assert scores[0]["nll"].tolist() == pytest.approx(scores[1]["nll"].tolist())
