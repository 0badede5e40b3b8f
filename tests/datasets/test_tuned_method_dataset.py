"""A tuned method comes back from its file as it was, or the file is named."""

import pytest
from kedro.io import DatasetError

from closer_look.datasets.tuned_method_dataset import TunedMethodDataset
from closer_look.parameters.methods import MethodParameters


@pytest.mark.parametrize("name", ["npo_gd", "pdu_gd", "altpo_gd", "rmu"])
def test_method_comes_back_as_it_was(tmp_path, shipped_methods, name):
    method = MethodParameters.model_validate(shipped_methods[name]).with_values({"epochs": 7})
    dataset = TunedMethodDataset(filepath=(tmp_path / "tuned_method.json").as_posix())
    dataset.save(method)
    assert dataset.load() == method


def test_file_that_holds_no_method_is_named(tmp_path):
    path = tmp_path / "tuned_method.json"
    path.write_text('{"label": "X", "forget": {"loss": "npq"}}')
    with pytest.raises(DatasetError, match=r"tuned_method\.json holds no method \(.*unknown loss"):
        TunedMethodDataset(filepath=path.as_posix()).load()
