"""A configuration that asks for more than the weights hold ends in one line, and builds nothing."""

import json
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from closer_look.errors import InputError
from closer_look.models import declared_size, rehearsal
from closer_look.models.declared_size import check_declared_size
from closer_look.models.language_model import load_language_model

MANY = [10**4, 10**9]


@pytest.fixture
def folder(language_model, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "SECONDS", 1)
    monkeypatch.setattr(declared_size, "SPARE", 10**5)
    language_model.model.save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def change(folder, file="config.json", **settings):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


@pytest.fixture
def refused(folder):
    """The message with which the folder is refused."""

    def refused():
        with pytest.raises(InputError) as caught:
            load_language_model(str(folder))
        assert "\n" not in str(caught.value)
        return str(caught.value).removeprefix(f"{folder}: ")

    return refused


@pytest.fixture
def make(folder, make_family):
    """Save a small model of a family in the folder, in place of the Llama."""

    def make(family, **settings):
        make_family(family, **settings).model.save_pretrained(folder)

    return make


TOO_MANY = "config.json asks for a model of more than 1"


@pytest.mark.parametrize("n", MANY)
@pytest.mark.parametrize("size", ["vocab_size", "hidden_size", "intermediate_size", "head_dim"])
def test_size_that_no_weight_has_is_refused(folder, refused, size, n):
    change(folder, **{size: n})
    message = refused()
    assert message.startswith(TOO_MANY)
    assert message.endswith("the safetensors files hold 7,408; they are not of one model")


@pytest.mark.parametrize("n", MANY)
def test_layers_that_no_weight_has_are_refused(folder, refused, n):
    change(folder, num_hidden_layers=n)
    message = refused()
    assert message.startswith((TOO_MANY, "to read config.json as AutoModelForCausalLM takes more"))


def test_layers_are_counted_as_they_are_built(folder, refused, monkeypatch):
    """Where no process can be copied, nothing else would end the building."""
    monkeypatch.setattr("psutil.LINUX", False)
    change(folder, num_hidden_layers=10**6)
    assert refused().startswith(TOO_MANY)


@pytest.mark.parametrize("n", MANY)
def test_heads_that_no_weight_has_are_refused(folder, refused, n):
    change(folder, num_attention_heads=n, num_key_value_heads=n)
    faults = ("to read config.json as AutoModelForCausalLM takes more", "no tokenizer there that")
    assert refused().startswith((TOO_MANY, *faults))


@pytest.mark.parametrize(
    ("family", "size", "n"),
    [
        ("mixtral", "num_local_experts", 10**4),
        ("mixtral", "num_local_experts", 10**9),
        ("gpt2", "n_positions", 10**9),
        ("opt", "max_position_embeddings", 10**9),
        ("gptj", "n_positions", 10**9),
        ("bloom", "n_layer", 10**9),
    ],
)
def test_other_families_call_their_sizes_otherwise(folder, make, refused, family, size, n):
    make(family)
    change(folder, **{size: n})
    assert refused().startswith((TOO_MANY, "to read config.json as"))


def test_sizes_of_the_part_that_reads_text_are_looked_at(folder, make, refused):
    make("gemma3")
    text = json.loads((folder / "config.json").read_text())["text_config"]
    change(folder, text_config=text | {"intermediate_size": 10**9})
    assert refused().startswith(TOO_MANY)


@pytest.mark.parametrize(
    ("family", "size"), [("mpt", "max_seq_len"), ("xlstm", "chunk_size"), ("bamba", None)]
)
def test_tables_that_a_pass_would_make_are_refused(folder, make, refused, family, size):
    make(family, **({"attn_layer_indices": [1]} if family == "bamba" else {}))
    size = size or "mamba_chunk_size"
    change(folder, **{size: 10**9})
    assert refused().startswith(f"{size} in config.json is 1,000,000,000, more than ")


def test_context_of_any_length_is_accepted_where_it_takes_no_memory(folder):
    change(folder, max_position_embeddings=10**9)
    assert load_language_model(str(folder)).model.config.max_position_embeddings == 10**9


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_model_as_it_was_saved_passes(folder, language_model, dtype):
    import copy

    copy.deepcopy(language_model.model).to(dtype).save_pretrained(folder)
    check_declared_size(str(folder), AutoModelForCausalLM)


def test_of_a_hub_name_nothing_is_looked_at():
    check_declared_size("someone/model", AutoModelForCausalLM)


def test_a_passed_folder_is_not_built_again_until_it_changes(folder, monkeypatch):
    check_declared_size(str(folder), AutoModelForCausalLM)
    monkeypatch.setattr(declared_size, "_build", lambda *arguments: 1 / 0)
    check_declared_size(str(folder), AutoModelForCausalLM)
    change(folder, num_hidden_layers=2)
    with pytest.raises(ValueError, match="division by zero"):
        check_declared_size(str(folder), AutoModelForCausalLM)


# --- adapters ---------------------------------------------------------------------------------


@pytest.fixture
def adapters(folder, language_model, tmp_path_factory):
    """Adapters of rank 2 on the model in the folder."""
    import copy

    from peft import LoraConfig, get_peft_model

    made = tmp_path_factory.mktemp("adapters")
    lora = LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM")
    get_peft_model(copy.deepcopy(language_model.model), lora).save_pretrained(made)
    language_model.tokenizer.save_pretrained(made)
    change(made, "adapter_config.json", base_model_name_or_path=str(folder))
    return made


def test_adapters_as_they_were_saved_pass(adapters):
    load_language_model(str(adapters))


def test_peft_is_imported_before_the_process_is_copied(adapters, monkeypatch):
    seen = []
    monkeypatch.delitem(sys.modules, "peft")
    monkeypatch.setattr(declared_size, "rehearse", lambda *_: seen.append("peft" in sys.modules))
    check_declared_size(str(adapters), AutoModelForCausalLM)
    assert seen == [True]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"r": 10**9}, "asks for a model of more than"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 10**9}, "asks for a model of more"),
        ({"target_modules": "(.+)+[!]"}, "takes more than 1 seconds"),
    ],
)
def test_adapters_that_no_weight_has_are_refused(adapters, settings, message):
    change(adapters, "adapter_config.json", **settings)
    with pytest.raises(InputError, match=message):
        load_language_model(str(adapters))


def test_model_below_adapters_is_counted_too(adapters, folder):
    change(folder, intermediate_size=10**9)
    with pytest.raises(InputError, match="asks for a model of more than"):
        load_language_model(str(adapters))
