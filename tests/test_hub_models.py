"""Models of the hub: weights from safetensors alone, and nobody's code, though one may say yes."""

import json
from types import SimpleNamespace

import huggingface_hub
import pytest

from closer_look import judges, language_model
from closer_look.errors import InputError

NAME, REVISION = "someone/model", "0" * 40
LOADERS = {
    "model": language_model.load_language_model,
    "embedder": judges.load_embedder,
    "entailment": judges.load_nli,
}


@pytest.fixture
def hub(language_model, monkeypatch, tmp_path):
    """A model as it lies in the hub's cache after a download, and what its code would leave."""
    for name, value in (("HF_HUB_CACHE", str(tmp_path)), ("HF_HUB_OFFLINE", True)):
        monkeypatch.setattr(huggingface_hub.constants, name, value)
    monkeypatch.setattr("builtins.input", lambda prompt="": "yes")
    repository = tmp_path / "models--someone--model"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(REVISION)
    folder = repository / "snapshots" / REVISION
    language_model.model.save_pretrained(folder)
    language_model.tokenizer.save_pretrained(folder)
    return SimpleNamespace(folder=folder, ran=tmp_path / "ran")


def change(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_model_in_the_cache_is_loaded(hub):
    assert LOADERS["model"](NAME).model.config.hidden_size == 16


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("model", f"{NAME}: no causal language model there"),
        ("embedder", f"parameter judges.embedder: no sentence-embedding model at '{NAME}'"),
        ("entailment", f"parameter judges.entailment: no text classifier at '{NAME}'"),
    ],
)
def test_weights_that_are_pickled_are_refused(hub, language_model, kind, message):
    import torch

    (hub.folder / "model.safetensors").unlink()
    torch.save(language_model.model.state_dict(), hub.folder / "pytorch_model.bin")
    with pytest.raises(InputError, match=f"^{message} "):
        LOADERS[kind](NAME)


@pytest.mark.parametrize("file", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_code_of_a_models_own_is_not_run(hub, load, file):
    (hub.folder / "own.py").write_text(f"open({str(hub.ran)!r}, 'w')")
    classes = {"AutoConfig": "own.Config", "AutoTokenizer": [None, "own.Tokenizer"]}
    names = {"model_type": "own", "tokenizer_class": "OwnTokenizer"}
    change(hub.folder / file, auto_map=classes, **names)
    with pytest.raises(InputError):
        load(NAME)
    assert not hub.ran.exists()
