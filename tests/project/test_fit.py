"""``kedro run`` refuses at its start what surely does not fit, and nothing else."""

import shutil
from collections import namedtuple

import pytest
from kedro.framework.project import pipelines

from closer_look.errors import InputError
from closer_look.project import fit

ONE = {"experiment": {"n_tasks": 1, "methods": ["me_gd"]}}
SMALL = {"plan": {"device_memory_gb": 1e-6}}
Usage = namedtuple("Usage", "total used free")


def test_a_run_that_does_not_fit_starts_no_node(kedro_run, tmp_path):
    with pytest.raises(InputError, match="Fine-tuning surely does not fit") as error:
        kedro_run(tmp_path, parameters=ONE | SMALL)
    assert "\n" not in str(error.value)
    assert not [*tmp_path.rglob("*.parquet")]


def test_what_trains_nothing_is_not_held_against_memory(kedro_run, tmp_path):
    assert kedro_run(tmp_path, "forget_set", parameters=ONE | SMALL)


def test_a_finished_run_is_not(kedro_run, copied_run):
    assert kedro_run(copied_run, parameters=SMALL, only_missing_outputs=True) == []


@pytest.fixture
def check(open_session, tmp_path):
    """Check a run of one method, with parameters and a runner."""

    def check(parameters, runner="DepthFirstRunner"):
        with open_session(tmp_path, ONE | parameters) as session:
            catalog = session.load_context().catalog
            fit.check_fit(pipelines["continual"].nodes, catalog, runner)

    return check


@pytest.fixture
def model(root, monkeypatch):
    """Llama-2-7b-chat: its configuration, as if its weights were there, too."""
    monkeypatch.setattr("closer_look.models.declared_size.check_declared_size", lambda *_: None)
    folder = (root / "conf" / "tofu" / "llama-2-7b-chat").as_posix()
    return {"base_model": {"pretrained": folder, "small_llama": None}}


def test_a_pretrained_model_is_known_by_its_configuration(check, model, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**12))
    known = {"experiment": ONE["experiment"] | {"finetuning": False}}
    with pytest.raises(InputError, match=r"ME.GD surely does not fit: .* take 107\.8 GB"):
        check(model | known | {"plan": {"device_memory_gb": 80}})
    check(model | known | {"plan": {"device_memory_gb": 80}, "unlearning": {"lora": {"rank": 8}}})
    check(model | known | {"plan": {"device_memory_gb": 108}})


def test_workers_share_a_model_that_one_device_has_read_whole(check, model, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 10**12))
    shared = model | {"finetuning": {"workers": 8}, "unlearning": {"workers": 8}}
    with pytest.raises(InputError, match=r"the model surely does not fit: .* take 27\.0 GB"):
        check(shared | {"plan": {"device_memory_gb": 20}})
    check(shared | {"plan": {"device_memory_gb": 28}})


def test_memory_of_other_machines_is_known_only_if_it_is_given(check, monkeypatch):
    monkeypatch.setattr(fit, "_memory_here", lambda: 1)
    check({}, runner="<closer_look.project.ray_runner.RayRunner object>")
    for given, runner in (({}, "DepthFirstRunner"), (SMALL, "RayRunner")):
        with pytest.raises(InputError, match="surely does not fit"):
            check(given, runner=runner)


def test_models_that_the_disk_does_not_hold_are_refused(check, monkeypatch):
    """The base model, the target model and that of the one task."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    with pytest.raises(InputError, match=r"surely do not fit: 3 of them take .* 0\.0 GB left"):
        check({})


def test_a_pretrained_model_takes_no_disk(check, model, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 9, 1))
    with pytest.raises(InputError, match=r"surely do not fit: 2 of them take 53\.9 GB"):
        check(model | {"plan": {"device_memory_gb": 1000}})


def test_faults_of_the_model_are_left_to_who_reads_it(check, tmp_path):
    check({"base_model": {"pretrained": str(tmp_path), "small_llama": None}})
