"""An exported model: all files of its folder at once, or none."""

import logging
from types import SimpleNamespace

import pytest
from kedro.io import DatasetError

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.datasets.export_dataset import ExportDataset
from closer_look.models.export import ExportedModel


@pytest.fixture
def dataset(tmp_path):
    return ExportDataset(filepath=(tmp_path / "export").as_posix())


def test_an_export_is_model_settings_and_card(dataset, language_model, caplog, tmp_path):
    caplog.set_level(logging.INFO)
    dataset.save(ExportedModel(language_model, "# Ünlearned"))
    assert (tmp_path / "export" / "README.md").read_text(encoding="utf-8") == "# Ünlearned"
    assert (tmp_path / "export" / "generation_config.json").is_file()
    assert dataset.load().tokenizer.get_vocab() == language_model.tokenizer.get_vocab()
    assert [line for line in caplog.messages if line.startswith("Export: ")]


def test_a_fault_leaves_the_former_export(dataset, language_model, tmp_path):
    dataset.save(ExportedModel(language_model, "first"))
    with pytest.raises(DatasetError):
        dataset.save(ExportedModel(language_model, None))
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    assert (tmp_path / "export" / "README.md").read_text() == "first"


def test_a_full_disk_is_named(dataset, language_model, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=0))
    with pytest.raises(DatasetError, match="the disk has 0 MB left"):
        dataset.save(ExportedModel(language_model, "card"))
    assert list(tmp_path.iterdir()) == []


def test_an_export_is_not_handed_on(dataset, language_model):
    """It may be merged in place: a run's next node must not take it for the run's model."""
    with CausalLMDataset.models_handed_on():
        dataset.save(ExportedModel(language_model, "card"))
        assert dataset.load().model is not language_model.model
