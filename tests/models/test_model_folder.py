"""A model's folder: what is not data is refused before anything of it is loaded."""

import json
import os
import socket

import pytest

from closer_look.errors import InputError
from closer_look.evaluation import judges
from closer_look.models import language_model
from closer_look.models.model_folder import check_folder


@pytest.fixture
def folder(tmp_path):
    """As ``save_pretrained`` and a trainer leave it."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "tokenizer_config.json", "tokenizer.json"):
        (folder / name).write_text("{}")
    for name in ("model.safetensors", "training_args.bin"):
        (folder / name).write_bytes(b"")
    return folder


def refused(folder):
    with pytest.raises(InputError) as caught:
        check_folder(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value).removeprefix(f"{folder}: ")


def write(path, content):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def test_folder_of_data_passes(folder):
    check_folder(str(folder))


@pytest.mark.parametrize("name", ["someone/model", ""])
def test_of_a_name_that_is_no_folder_nothing_is_looked_at(folder, monkeypatch, name):
    (folder / "weights.pt").touch()
    monkeypatch.chdir(folder)
    check_folder(name)


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "adapter_model.bin",
        "optimizer.pt",
        "consolidated.00.pth",
        "last.ckpt",
        "Vocabulary.PKL",
        "vocabulary.pickle",
        "2_Dense/pytorch_model.bin",
    ],
)
def test_pickle_beside_safetensors_is_refused(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    assert refused(folder) == (
        f"{name} is a pickle, which may run code when it is read; take it out, "
        "and have the weights in safetensors, as save_pretrained writes them"
    )


def test_code_is_refused(folder):
    (folder / "modeling.py").touch()
    assert refused(folder) == (
        "modeling.py is code, which is never run; "
        "take it out if transformers knows the model without it"
    )


@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "config.4.0.0.json",  # read in place of config.json, if that names it
        "tokenizer_config.json",
        "0_Transformer/config.json",
    ],
)
def test_configuration_that_asks_for_code_is_refused(folder, name):
    write(folder / name, {"auto_map": {"AutoModelForCausalLM": "someone/code--modeling.Model"}})
    assert refused(folder) == (
        f"{name} asks for code of the model's own (auto_map), which is never run; "
        "take it out if transformers knows the model without it"
    )


@pytest.mark.parametrize("module", ["os.system", "sentence_transformers_of_mine.Transformer"])
def test_module_that_is_not_of_sentence_transformers_is_refused(folder, module):
    modules = ["sentence_transformers.models.Transformer", module]
    write(folder / "modules.json", [{"path": "", "type": module} for module in modules])
    assert refused(folder) == (
        f"modules.json asks for code of the model's own ({module}), which is never run"
    )


@pytest.mark.parametrize("content", [{}, 1, "x", [1, "x"]])
def test_modules_that_are_no_list_of_modules_are_left_to_their_loader(folder, content):
    write(folder / "modules.json", content)
    check_folder(str(folder))


@pytest.mark.parametrize("is_folder", [True, False])
def test_link_out_of_the_folder_is_refused(folder, tmp_path, is_folder):
    other = tmp_path / "other"
    other.mkdir() if is_folder else other.touch()
    (folder / "vocabulary.txt").symlink_to(other)
    assert refused(folder) == (
        "vocabulary.txt is a link out of the folder; put the file itself there "
        "(hf download NAME --local-dir FOLDER does, for a model of the hub)"
    )


def test_links_that_stay_in_the_folder_pass(folder, tmp_path):
    (folder / "vocabulary.json").symlink_to("tokenizer.json")
    (tmp_path / "latest").symlink_to(folder)
    check_folder(str(tmp_path / "latest"))


def test_links_that_lead_round_pass_if_nothing_reads_them(folder):
    (folder / "here").symlink_to(".")
    check_folder(str(folder))


NO_FILE = "is a pipe, a device, or a link that leads to no file; take it out"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "1_Pooling/config.json", "x"])
def test_pipe_is_never_opened(folder, name):
    (folder / "1_Pooling").mkdir()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    assert refused(folder) == f"{name} {NO_FILE}"


def test_socket_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)  # the path of a socket has to be short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("s")
        assert refused(folder) == f"s {NO_FILE}"


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_device_is_never_opened(folder, name):
    (folder / name).unlink()
    (folder / name).symlink_to("/dev/zero")
    assert refused(folder).startswith(f"{name} is a link out of the folder")


@pytest.mark.parametrize("leads_to", ["config.json", "nowhere.json"])
def test_link_that_leads_to_no_file_is_refused(folder, leads_to):
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(leads_to)
    assert refused(folder) == f"config.json {NO_FILE}"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocab.txt", "sub/vocab.json"])
def test_text_too_large_for_any_model_is_never_read(folder, name):
    (folder / "sub").mkdir()
    (folder / name).touch()
    os.truncate(folder / name, 100 * 2**20)
    check_folder(str(folder))
    os.truncate(folder / name, 100 * 2**20 + 1)
    assert refused(folder) == f"{name} is larger than 100 MB, which no model needs; take it out"


def test_files_that_nobody_reads_may_be_large(folder):
    for name in ("rows.json", "model.safetensors", "trainer_state.json"):
        (folder / name).touch()
        os.truncate(folder / name, 2**30)
    check_folder(str(folder))


@pytest.mark.parametrize(
    "file",
    [
        *("weights.bin", "../other/model.safetensors", "/model.safetensors", "/dev/zero", "."),
        "model.safetensors.index.json",
    ],
)
def test_other_weights_that_a_file_names_are_refused(folder, file):
    write(folder / "model.safetensors.index.json", {"weight_map": {"lm_head.weight": file}})
    assert refused(folder) == (
        f"model.safetensors.index.json names the weights '{file}'; "
        "only safetensors in the same folder are read"
    )


def test_pickle_that_the_configuration_names_is_refused(folder):
    write(folder / "config.json", {"transformers_weights": "weights.bin"})
    assert refused(folder).startswith("config.json names the weights 'weights.bin'; ")


def test_model_that_adapters_are_for_is_looked_at_too(folder, tmp_path):
    write(tmp_path / "adapters" / "adapter_config.json", {"base_model_name_or_path": str(folder)})
    check_folder(str(tmp_path / "adapters"))
    (folder / "modeling.py").touch()
    with pytest.raises(InputError, match=rf"^{folder}: modeling\.py is code"):
        check_folder(str(tmp_path / "adapters"))


def test_model_that_adapters_of_a_module_are_for_is_looked_at_too(folder, tmp_path):
    module = tmp_path / "embedder" / "0_Transformer"
    module.mkdir(parents=True)
    write(module / "adapter_config.json", {"base_model_name_or_path": str(folder)})
    check_folder(str(tmp_path / "embedder"))
    (folder / "modeling.py").touch()
    with pytest.raises(InputError, match=rf"^{folder}: modeling\.py is code"):
        check_folder(str(tmp_path / "embedder"))


@pytest.mark.parametrize("named", [None, 3, [], ["weights.bin"], {"lm_head.weight": 3}])
def test_weights_that_have_no_name_are_refused(folder, named):
    write(folder / "model.safetensors.index.json", {"weight_map": named})
    message = refused(folder)
    assert message.startswith("model.safetensors.index.json names the weights ")
    assert message.endswith("; only safetensors in the same folder are read")


def test_adapters_that_name_each_other_come_to_an_end(folder):
    write(folder / "adapter_config.json", {"base_model_name_or_path": str(folder)})
    check_folder(str(folder))


@pytest.mark.parametrize(
    "load", [language_model.load_language_model, judges.load_embedder, judges.load_nli]
)
def test_every_loader_looks_at_the_folder(folder, load):
    (folder / "modeling.py").touch()
    with pytest.raises(InputError, match=r"modeling\.py is code"):
        load(str(folder))


@pytest.mark.parametrize("content", [b"[" * 100_000, b"{", b"\xff"])
def test_configuration_that_cannot_be_read_is_left_to_its_loader(folder, content):
    (folder / "config.json").write_bytes(content)
    check_folder(str(folder))
