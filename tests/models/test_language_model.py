"""Loading a model: what is not one is refused in one line."""

import gc
import json
import re
import weakref

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText

from closer_look.errors import InputError
from closer_look.models import language_model as module
from closer_look.models.language_model import check_precision, check_weights, load_language_model


@pytest.fixture
def folder(language_model, tmp_path):
    language_model.model.save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def refused(folder, **options):
    """The message with which the folder is refused."""
    with pytest.raises(InputError) as caught:
        load_language_model(str(folder), **options)
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}: ")


def test_model_and_tokenizer_are_loaded(folder, language_model):
    loaded = load_language_model(str(folder))
    assert loaded.tokenizer.get_vocab() == language_model.tokenizer.get_vocab()
    assert loaded.model.config.hidden_size == language_model.model.config.hidden_size


def test_weights_are_fp32_whatever_they_were_saved_in(folder, language_model):
    import copy

    import torch

    copy.deepcopy(language_model.model).to(torch.bfloat16).save_pretrained(folder)
    assert load_language_model(str(folder)).model.dtype == torch.float32


def test_a_model_that_is_garbage_is_freed_before_another_is_read(folder, monkeypatch):
    def load():
        model = load_language_model(folder).model
        model.itself = [model]  # as after a training in bf16
        return weakref.ref(model)

    def collect():
        assert loaded() is not None
        collected.append(whole_collection())
        assert loaded() is None

    monkeypatch.setattr(module, "_LOADED", weakref.WeakSet())
    collected, whole_collection = [], gc.collect
    gc.disable()
    try:
        loaded = load()
        monkeypatch.setattr(gc, "collect", collect)
        load()
        assert len(collected) == 1
    finally:
        gc.enable()


def test_without_another_model_nothing_is_collected(folder, monkeypatch):
    monkeypatch.setattr(module, "_LOADED", weakref.WeakSet())
    monkeypatch.setattr(gc, "collect", lambda: pytest.fail("it takes longer than to read a model"))
    for _ in range(2):
        load_language_model(folder)


def test_prompt_is_set(folder):
    assert "[INST]" in load_language_model(str(folder), "llama2").tokenizer.chat_template


def test_folder_that_does_not_exist_is_named(tmp_path):
    assert refused(tmp_path / "nope").startswith("no tokenizer there")


def test_folder_without_tokenizer_is_refused(language_model, tmp_path):
    language_model.model.save_pretrained(tmp_path)
    assert refused(tmp_path).startswith("no tokenizer there that transformers can read (")


def test_folder_without_model_is_refused(folder):
    (folder / "config.json").unlink()
    (folder / "model.safetensors").unlink()
    assert refused(folder).startswith("no causal language model there")


def test_weights_that_are_pickled_are_refused(folder, language_model):
    import torch

    (folder / "model.safetensors").unlink()
    torch.save(language_model.model.state_dict(), folder / "pytorch_model.bin")
    assert refused(folder).startswith("pytorch_model.bin is a pickle")


def test_weights_that_are_cut_short_are_refused(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert refused(folder).startswith("model.safetensors cannot be read as safetensors (")


def test_weights_that_are_missing_are_not_made_up(folder):
    weights = load_file(folder / "model.safetensors")
    missing = sorted(name for name in weights if "mlp" in name)
    save_file(
        {name: weights[name] for name in weights.keys() - missing},
        folder / "model.safetensors",
        metadata={"format": "pt"},
    )
    assert refused(folder) == (f"{len(missing)} of its weights are missing, such as {missing[0]}")


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", ["{}", "[]", '"x"', '{"model_type": 3}'])
def test_files_of_another_content_are_refused(folder, file, content):
    (folder / file).write_text(content)
    assert re.match(
        r"no causal language model|no tokenizer|the tokenizer has no end", refused(folder)
    )


def test_weights_of_another_size_are_refused(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"hidden_size": 32}))
    assert refused(folder).startswith("no causal language model there (")


@pytest.fixture
def save_model_that_sees(make_family, folder):
    """Save a model that takes images, too, and return it."""

    def save_model_that_sees(family, **settings):
        model = make_family(family, AutoModelForImageTextToText, **settings).model
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder)
        return model

    return save_model_that_sees


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("gemma3", {}),
        ("llama4", {}),
        ("qwen3_5", {"layer_types": ["linear_attention", "full_attention"]}),
    ],
)
def test_of_a_model_that_sees_the_text_is_taken(save_model_that_sees, folder, family, settings):
    model, text = save_model_that_sees(family, **settings), torch.tensor([[3, 4, 5, 6]])
    loaded = load_language_model(str(folder)).model.eval()
    logits, expected = (one(input_ids=text, use_cache=False).logits for one in (loaded, model))
    torch.testing.assert_close(logits, expected)


def test_a_model_that_sees_and_cannot_do_without_is_refused(save_model_that_sees, folder):
    save_model_that_sees("mistral3")
    assert refused(folder).startswith("no causal language model there (Unrecognized configuration")


def test_tokenizer_without_end_of_sequence_is_refused(folder):
    path = folder / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in settings.items() if k != "eos_token"}))
    assert refused(folder) == "the tokenizer has no end-of-sequence token"


def test_tokenizer_without_chat_template_is_refused(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InputError, match="'chat_template' is asked for, but the tokenizer"):
        load_language_model(str(folder))


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{% for c in ().__class__.__base__.__subclasses__() %}{{ c }}{% endfor %}",
        "{{ messages.append(1) }}",
        "{{ messages[0]['content'] + 1 }}",
        "{% if %}",
    ],
)
def test_chat_template_that_reaches_for_more_than_the_question_is_refused(folder, template):
    (folder / "chat_template.jinja").write_text(template)
    message = refused(folder)
    assert message.startswith("its chat template fails on 'Who?' (")
    assert message.endswith("); use one of plain, llama2")


def test_chat_template_that_is_replaced_is_not_run(folder):
    (folder / "chat_template.jinja").write_text("{{ ''.__class__.__mro__ }}")
    assert load_language_model(str(folder), "plain").tokenizer.chat_template.startswith("{{ bos")


def test_precision_that_no_device_here_computes_is_refused(monkeypatch):
    monkeypatch.setattr("transformers.utils.is_torch_bf16_gpu_available", lambda: False)
    check_precision("fp32", "unlearning")
    with pytest.raises(InputError) as caught:
        check_precision("bf16", "unlearning")
    assert str(caught.value) == (
        "parameter unlearning.precision: no GPU of this machine supports bf16; use fp32"
    )


def test_precision_that_a_device_here_computes_is_accepted(monkeypatch):
    monkeypatch.setattr("transformers.utils.is_torch_bf16_gpu_available", lambda: True)
    check_precision("bf16", "unlearning")


def test_accelerator_that_torch_knows_but_the_machine_has_not_is_not_used(folder, monkeypatch):
    """PyPI's torch is built for CUDA; laptops have none."""

    def current_accelerator(check_available=False):
        return None if check_available else torch.device("cuda")

    monkeypatch.setattr("torch.accelerator.current_accelerator", current_accelerator)
    assert load_language_model(str(folder)).model.device.type == "cpu"


def test_weights_that_the_device_does_not_hold_are_named(folder, monkeypatch):
    def to(model, device):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0")

    monkeypatch.setattr("transformers.PreTrainedModel.to", to)
    with pytest.raises(InputError) as error:
        load_language_model(str(folder))
    assert error.value.message == (
        f"out of memory: the weights of {folder} do not fit on this device with what is on it "
        f"(CUDA out of memory. Tried to allocate 2.00 GiB.); nvidia-smi names the programs that "
        f"use it, --pipelines plan tells what a run takes"
    )


def test_weights_are_known_by_their_hash(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_weights(str(tmp_path), known)
    (tmp_path / "model.safetensors").write_bytes(b"abd")
    with pytest.raises(
        InputError, match=r"is another file, with a52d159f.*sha256=null to take any model$"
    ):
        check_weights(str(tmp_path), known)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"model\.safetensors is missing; "):
        check_weights(str(tmp_path), known)
