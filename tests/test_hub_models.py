"""Models of the hub: weights from safetensors alone, and nobody's code, though one may say yes."""

import copy
import json
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from closer_look.errors import InputError
from closer_look.evaluation.judges import load_embedder, load_nli
from closer_look.models.adapters import with_adapter
from closer_look.models.language_model import LanguageModel, load_language_model
from closer_look.parameters.training import LoraParameters

NAME, REVISION = "someone/model", "0" * 40
LOADERS = {
    "model": load_language_model,
    "adapters": load_language_model,
    "embedder": load_embedder,
    "entailment": load_nli,
}
REFUSED = {
    "model": ": no causal language model there (",
    "adapters": ": no causal language model there (",
    "embedder": ": no sentence-embedding model at ",
    "entailment": ": no text classifier at ",
}


@pytest.fixture
def hub(language_model, monkeypatch, tmp_path):
    """A model as it lies in the hub's cache after a download, and what its code would leave."""
    for name, value in (("HF_HUB_CACHE", str(tmp_path)), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    modules = "transformers.dynamic_module_utils.HF_MODULES_CACHE"  # code that is to be run
    monkeypatch.setattr(modules, str(tmp_path / "modules"))
    monkeypatch.setattr("builtins.input", lambda prompt="": "yes")
    repository = tmp_path / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    folder = repository / "snapshots" / REVISION
    language_model.model.save_pretrained(folder)
    language_model.tokenizer.save_pretrained(folder)
    return SimpleNamespace(folder=folder, ran=tmp_path / "ran")


@pytest.fixture
def load(hub, language_model, tmp_path):
    """Load the model of the hub, or adapters in a folder that are for it."""

    def load(kind):
        if kind != "adapters":
            return LOADERS[kind](NAME)
        folder = tmp_path / "adapters"
        model = LanguageModel(copy.deepcopy(language_model.model), language_model.tokenizer)
        with_adapter(model, LoraParameters()).model.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
        change(folder / "adapter_config.json", base_model_name_or_path=NAME)
        return LOADERS[kind](str(folder))

    return load


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("kind", ["model", "adapters"])
def test_model_in_the_cache_is_loaded(load, kind):
    assert load(kind).model.config.hidden_size == 16


@pytest.mark.parametrize("kind", LOADERS)
def test_weights_that_are_pickled_are_refused(hub, load, language_model, kind):
    (hub.folder / "model.safetensors").unlink()
    torch.save(language_model.model.state_dict(), hub.folder / "pytorch_model.bin")
    with pytest.raises(InputError) as caught:
        load(kind)
    assert REFUSED[kind] in str(caught.value)


OWN_TOKENIZER = [kind for kind in LOADERS if kind != "adapters"]  # which come with another


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        *((kind, "config.json") for kind in LOADERS),
        *((kind, "tokenizer_config.json") for kind in OWN_TOKENIZER),
    ],
)
def test_code_of_a_models_own_is_not_run(hub, load, kind, file):
    (hub.folder / "own.py").write_text(f"open({str(hub.ran)!r}, 'w')")
    classes = {"AutoConfig": "own.Config", "AutoTokenizer": [None, "own.Tokenizer"]}
    names = {"model_type": "own", "tokenizer_class": "OwnTokenizer"}
    change(hub.folder / file, auto_map=classes, **names)
    with pytest.raises(InputError):
        load(kind)
    assert not hub.ran.exists()
