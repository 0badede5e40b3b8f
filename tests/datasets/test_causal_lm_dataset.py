"""Models on disk: what was saved comes back, and a crash leaves no half model."""

import copy
import gc
import json
import shutil
import weakref

import pytest
import torch
from kedro.io.core import DatasetError

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.errors import InputError
from closer_look.models.language_model import LanguageModel, PretrainedModel
from closer_look.models.prompts import set_prompt
from closer_look.system.fingerprints import fingerprint

INPUTS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "models" / "target"


@pytest.fixture
def dataset(folder):
    return CausalLMDataset(filepath=str(folder))


@pytest.fixture
def other(language_model):
    """The same model, its weights changed."""
    other = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
    with torch.no_grad():
        other.model.lm_head.weight.mul_(2)
    return other


@torch.inference_mode()
def logits(language_model):
    model = language_model.model.eval()
    return model(INPUTS.to(model.device)).logits.cpu()


def test_logits_are_the_same_after_a_round_trip(dataset, language_model):
    dataset.save(language_model)
    assert torch.equal(logits(dataset.load()), logits(language_model))


def test_chat_template_is_the_same_after_a_round_trip(dataset, language_model):
    tokenizer = copy.deepcopy(language_model.tokenizer)
    set_prompt(tokenizer, "llama2")
    dataset.save(LanguageModel(language_model.model, tokenizer))
    assert dataset.load().tokenizer.chat_template == tokenizer.chat_template


def test_weights_are_safetensors_and_nothing_is_pickled(dataset, folder, language_model):
    dataset.save(language_model)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json", ".jinja"}


def test_saving_again_replaces_the_model(dataset, language_model, other):
    dataset.save(language_model)
    dataset.save(other)
    assert torch.equal(logits(dataset.load()), logits(other))


def test_saving_leaves_nothing_beside_the_model(dataset, folder, language_model):
    dataset.save(language_model)
    assert list(folder.parent.iterdir()) == [folder]


def test_files_of_an_older_model_do_not_stay(dataset, folder, language_model):
    dataset.save(language_model)
    (folder / "adapter.safetensors").touch()
    dataset.save(language_model)
    assert not (folder / "adapter.safetensors").exists()


def crash(monkeypatch, model):
    """Let the model's saving break off after the configuration is written."""

    def save_pretrained(folder):
        model.config.save_pretrained(folder)
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "save_pretrained", save_pretrained)


def test_crash_while_saving_leaves_the_old_model(dataset, language_model, other, monkeypatch):
    dataset.save(language_model)
    crash(monkeypatch, other.model)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(other)
    assert torch.equal(logits(dataset.load()), logits(language_model))


def test_crash_while_saving_the_first_model_leaves_none(dataset, folder, other, monkeypatch):
    crash(monkeypatch, other.model)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(other)
    assert not dataset.exists()
    assert list(folder.parent.iterdir()) == []


def test_crash_while_the_old_model_is_removed_leaves_the_new_one(
    dataset, folder, language_model, other, monkeypatch
):
    dataset.save(language_model)

    def half(removed, **options):
        for path in removed.glob("*.safetensors"):
            path.unlink()
            raise KeyboardInterrupt

    with monkeypatch.context() as broken, pytest.raises(KeyboardInterrupt):
        broken.setattr(shutil, "rmtree", half)
        dataset.save(other)
    assert torch.equal(logits(dataset.load()), logits(other))
    dataset.save(other)
    assert list(folder.parent.iterdir()) == [folder]


def test_files_that_a_killed_process_was_writing_do_not_stay(dataset, folder, language_model):
    killed = folder.with_name("target.partial")
    killed.mkdir(parents=True)
    (killed / "adapter.safetensors").touch()
    dataset.save(language_model)
    assert not (folder / "adapter.safetensors").exists()


def test_a_model_read_from_disk_is_saved_as_the_same_files(dataset, folder, language_model):
    dataset.save(language_model)
    before = fingerprint([str(folder)])
    dataset.save(dataset.load())
    assert fingerprint([str(folder)]).sha256 == before.sha256
    assert fingerprint(dataset.sources()) == fingerprint([str(folder)])


def test_a_pretrained_model_s_own_folder_is_a_source(dataset, folder, language_model, tmp_path):
    own = str(tmp_path / "own")
    CausalLMDataset(filepath=own).save(language_model)
    assert dataset.sources() == []
    dataset.save(PretrainedModel(own, "plain"))
    assert dataset.sources() == [str(folder), own]
    dataset.save(PretrainedModel("org/name", "plain"))
    assert dataset.sources() == [str(folder)]


def test_the_model_below_a_pretrained_model_s_adapters_is_a_source(adapted, folder, tmp_path):
    """They are merged when it is loaded."""
    adapters = str(tmp_path / "adapters")
    CausalLMDataset(filepath=adapters).save(adapted)
    dataset = CausalLMDataset(filepath=str(tmp_path / "other"))
    dataset.save(PretrainedModel(adapters, "plain"))
    assert dataset.sources() == [str(tmp_path / "other"), adapters, str(folder)]


def test_save_after_a_crash_succeeds(dataset, folder, language_model, other, monkeypatch):
    crash(monkeypatch, other.model)
    with pytest.raises(KeyboardInterrupt):
        dataset.save(other)
    dataset.save(language_model)
    assert torch.equal(logits(dataset.load()), logits(language_model))
    assert list(folder.parent.iterdir()) == [folder]


def test_model_exists_once_it_is_saved(dataset, language_model):
    assert not dataset.exists()
    dataset.save(language_model)
    assert dataset.exists()


def test_full_disk_is_refused_before_anything_is_written(
    dataset, folder, language_model, monkeypatch
):
    usage = shutil.disk_usage(folder.anchor)._replace(free=50 * 2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    monkeypatch.setattr(language_model.model, "save_pretrained", None)
    with pytest.raises(DatasetError) as caught:
        dataset.save(language_model)
    assert isinstance(caught.value.__cause__, InputError)
    assert str(caught.value.__cause__) == (
        f"{folder}: the model needs 64 MB, the disk has 50 MB left"
    )
    assert list(folder.parent.iterdir()) == []


def test_full_disk_leaves_the_old_model(dataset, language_model, other, monkeypatch):
    dataset.save(language_model)
    usage = shutil.disk_usage("/")._replace(free=50 * 2**20)
    with monkeypatch.context() as full, pytest.raises(DatasetError, match="MB left"):
        full.setattr(shutil, "disk_usage", lambda path: usage)
        dataset.save(other)
    assert torch.equal(logits(dataset.load()), logits(language_model))


def test_folder_without_a_model_is_refused(dataset, folder):
    folder.mkdir(parents=True)
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(caught.value.__cause__, InputError)


def test_preview_shows_the_configuration(dataset, language_model):
    dataset.save(language_model)
    assert json.loads(dataset.preview())["hidden_size"] == 16


@pytest.fixture
def adapted(dataset, language_model):
    """A model on disk, with LoRA adapters that change its answers."""
    from peft import LoraConfig, get_peft_model

    dataset.save(language_model)
    model, tokenizer = dataset.load()
    config = LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.fill_(0.5)
    return LanguageModel(adapted, tokenizer)


def test_adapters_are_saved_without_their_base_model(adapted, tmp_path):
    CausalLMDataset(filepath=str(tmp_path / "adapted")).save(adapted)
    weights = list((tmp_path / "adapted").glob("*.safetensors"))
    assert [path.name for path in weights] == ["adapter_model.safetensors"]


def test_adapters_come_back_on_their_base_model(adapted, language_model, tmp_path):
    dataset = CausalLMDataset(filepath=str(tmp_path / "adapted"))
    dataset.save(adapted)
    found = logits(dataset.load())
    assert torch.equal(found, logits(adapted))
    assert not torch.allclose(found, logits(language_model))


def test_adapters_come_back_ready_to_be_trained_on(adapted, tmp_path):
    dataset = CausalLMDataset(filepath=str(tmp_path / "adapted"))
    dataset.save(adapted)
    trained = [name for name, w in dataset.load().model.named_parameters() if w.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)


def test_adapters_exist_once_they_are_saved(adapted, tmp_path):
    dataset = CausalLMDataset(filepath=str(tmp_path / "adapted"))
    assert not dataset.exists()
    dataset.save(adapted)
    assert dataset.exists()


def test_adapters_need_room_for_themselves_alone(adapted, tmp_path, monkeypatch):
    n_bytes = sum(w.numel() * 4 for w in adapted.model.parameters() if w.requires_grad)
    free = n_bytes + 64 * 2**20
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    dataset = CausalLMDataset(filepath=str(tmp_path / "adapted"))
    dataset.save(adapted)
    assert dataset.exists()


def test_preview_of_adapters_shows_theirs(adapted, tmp_path):
    dataset = CausalLMDataset(filepath=str(tmp_path / "adapted"))
    dataset.save(adapted)
    assert json.loads(dataset.preview())["r"] == 2


@pytest.fixture
def pretrained(language_model, tmp_path):
    """A model that somebody else wrote."""
    folder = tmp_path / "pretrained"
    language_model.model.save_pretrained(folder)
    language_model.tokenizer.save_pretrained(folder)
    return PretrainedModel(str(folder), "llama2")


def test_of_a_pretrained_model_only_the_name_is_written(dataset, folder, pretrained):
    assert not dataset.exists()
    dataset.save(pretrained)
    assert dataset.exists()
    (written,) = folder.iterdir()
    record = json.loads(written.read_text())
    assert (record["name"], record["prompt"]) == (pretrained.name, "llama2")
    assert record["settings"]["date"] == "2026-01-01"
    assert json.loads(dataset.preview()) == record


def test_pretrained_model_is_loaded_from_where_it_is(dataset, pretrained, language_model):
    dataset.save(pretrained)
    loaded = dataset.load()
    assert torch.equal(logits(loaded), logits(language_model))
    assert "[INST]" in loaded.tokenizer.chat_template


def test_trained_model_replaces_a_pretrained_one(dataset, pretrained, other):
    dataset.save(pretrained)
    dataset.save(other)
    assert torch.equal(logits(dataset.load()), logits(other))


def test_pretrained_model_that_is_gone_is_named(dataset, pretrained):
    dataset.save(pretrained)
    shutil.rmtree(pretrained.name)
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert str(caught.value.__cause__).startswith(f"{pretrained.name}: no tokenizer there")


@pytest.fixture
def handed_on():
    with CausalLMDataset.models_handed_on():
        yield


def test_model_is_read_anew_outside_a_run(dataset, language_model):
    dataset.save(language_model)
    assert dataset.load().model is not language_model.model


@pytest.mark.usefixtures("handed_on")
def test_model_saved_in_a_run_is_handed_on(dataset, language_model):
    dataset.save(language_model)
    assert dataset.load().model is language_model.model


@pytest.mark.usefixtures("handed_on")
def test_model_that_was_changed_since_is_read_from_disk(dataset, language_model):
    dataset.save(language_model)
    loaded = CausalLMDataset(filepath=str(dataset._filepath)).load()
    saved = logits(loaded)
    other = copy.deepcopy(language_model.model)
    dataset.save(LanguageModel(other, language_model.tokenizer))
    with torch.no_grad():
        other.lm_head.weight.mul_(2)
    assert torch.equal(logits(dataset.load()), saved)


@pytest.mark.usefixtures("handed_on")
def test_model_that_was_changed_since_is_freed_before_another_is_read(
    dataset, language_model, monkeypatch
):
    dataset.save(LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer))
    held = weakref.ref(dataset.load().model)
    with torch.no_grad():
        held().lm_head.weight.mul_(2)

    def read(self):
        gc.collect()
        return "freed" if held() is None else "kept"

    monkeypatch.setattr(CausalLMDataset, "_read", read)
    monkeypatch.setattr(CausalLMDataset, "_hand_on", lambda self, model: None)
    assert dataset.load() == "freed"


@pytest.mark.usefixtures("handed_on")
def test_only_the_latest_model_is_kept(dataset, tmp_path, language_model, other):
    second = CausalLMDataset(filepath=str(tmp_path / "second"))
    dataset.save(language_model)
    second.save(other)
    assert second.load().model is other.model
    assert dataset.load().model is not language_model.model
    assert len(CausalLMDataset._latest) == 1


@pytest.mark.usefixtures("handed_on")
def test_model_that_nobody_will_load_is_let_go(dataset, language_model):
    dataset.save(language_model)
    dataset.release()
    assert CausalLMDataset._latest == {}
