"""A run never writes over a model that it is given."""

import json

import pytest

from closer_look.errors import InputError


@pytest.mark.parametrize("form", ["{0}", "{0}/../target"])
def test_a_run_s_own_target_is_no_base_model(kedro_run, tmp_path, form):
    kedro_run(tmp_path, "forget_set", "finetuning")
    target = tmp_path / "06_models" / "test" / "target"
    held = {path.name: path.read_bytes() for path in target.iterdir()}
    model = {"pretrained": form.format(target), "small_llama": None, "prompt": "chat_template"}
    for options in ({}, {"experiment": {"finetuning": False}}):
        with pytest.raises(InputError, match=r"^parameter base_model.pretrained: .* is where this"):
            kedro_run(tmp_path, parameters={"base_model": model, **options})
    assert {path.name: path.read_bytes() for path in target.iterdir()} == held


def test_another_run_s_target_may_be_a_base_model(kedro_run, tmp_path):
    kedro_run(tmp_path, "forget_set", "finetuning")
    target = tmp_path / "06_models" / "test" / "target"
    model = {"pretrained": str(target), "small_llama": None, "prompt": "chat_template"}
    parameters = {"base_model": model, "experiment": {"finetuning": False}, "run": "another"}
    kedro_run(tmp_path, "forget_set", "finetuning", parameters=parameters)
    written = tmp_path / "06_models" / "another" / "target" / "pretrained.json"
    assert json.loads(written.read_text())["name"] == str(target)
