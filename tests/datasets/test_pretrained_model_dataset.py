"""Models that somebody else wrote: read by name, never written."""

import pytest
from kedro.io.core import DatasetError

from closer_look.datasets.pretrained_model_dataset import PretrainedModelDataset
from closer_look.errors import InputError


@pytest.fixture
def folder(language_model, tmp_path):
    language_model.model.save_pretrained(tmp_path)
    language_model.tokenizer.save_pretrained(tmp_path)
    return tmp_path


def test_model_of_a_folder_is_loaded(folder, language_model):
    loaded = PretrainedModelDataset(name=str(folder)).load()
    assert loaded.tokenizer.get_vocab() == language_model.tokenizer.get_vocab()


def test_model_gets_the_prompt_asked_for(folder):
    loaded = PretrainedModelDataset(name=str(folder), prompt="llama2").load()
    assert "[INST]" in loaded.tokenizer.chat_template


def test_model_is_never_written(folder, language_model):
    with pytest.raises(DatasetError, match="read only"):
        PretrainedModelDataset(name=str(folder)).save(language_model)


def test_name_without_a_model_is_refused(tmp_path):
    with pytest.raises(DatasetError) as caught:
        PretrainedModelDataset(name=str(tmp_path / "nope")).load()
    assert isinstance(caught.value.__cause__, InputError)
