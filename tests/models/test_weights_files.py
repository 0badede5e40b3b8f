"""What the headers of weights say is not believed before it is looked at."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save_file

from closer_look.errors import InputError
from closer_look.models.weights_files import LONGEST_HEADERS, read_headers

SIXTEEN = bytes(16)


def tensor(shape, offsets, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def write(folder, header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    length = len(header) if length is None else length
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", length) + header + data)


def refused(folder):
    with pytest.raises(InputError) as caught:
        read_headers([str(folder)])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_weights_are_counted_over_folders(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        weights = {"a": torch.zeros(2, 3), "b": torch.zeros(5, dtype=torch.bfloat16)}
        save_file(weights, tmp_path / name / "model.safetensors")
    n_bytes = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert read_headers([str(tmp_path / "one"), str(tmp_path / "two")]) == (22, n_bytes)


@pytest.mark.parametrize("link", [os.link, os.symlink])
def test_weights_that_are_linked_many_times_count_once(tmp_path, link):
    save_file({"a": torch.zeros(2, 3)}, tmp_path / "model.safetensors")
    for number in range(3):
        link(tmp_path / "model.safetensors", tmp_path / f"model-{number}.safetensors")
    assert read_headers([str(tmp_path)]).n_values == 6


@pytest.mark.parametrize(
    ("header", "data"),
    [
        pytest.param({"a": tensor([4], [0, 16])}, b"1234", id="past the end"),
        pytest.param({"a": tensor([4], [0, 16])}, bytes(17), id="bytes without a tensor"),
        pytest.param({name: tensor([4], [0, 16]) for name in "ab"}, SIXTEEN, id="overlapping"),
        pytest.param({"a": tensor([4], [-16, 0])}, SIXTEEN, id="negative"),
        pytest.param({"a": tensor([5], [0, 16])}, SIXTEEN, id="another shape"),
        pytest.param({"a": tensor([2**40, 2**40], [0, 16])}, SIXTEEN, id="shape that overflows"),
        pytest.param({"a": tensor([4], [0, 16], "X9")}, SIXTEEN, id="another dtype"),
        pytest.param(b'{"a": NaN}', b"", id="NaN"),
        pytest.param(b"[" * 1_000_000, b"", id="deep lists"),
        pytest.param(b'{"a": ' * 100_000, b"", id="deep mappings"),
    ],
)
def test_header_that_lies_is_refused(tmp_path, header, data):
    write(tmp_path, header, data)
    message = refused(tmp_path)
    assert message.startswith(f"{tmp_path}: model.safetensors cannot be read as safetensors (Error")
    assert message.endswith("); copy or save it again")


@pytest.mark.parametrize("length", [2**62, 2**64 - 1, LONGEST_HEADERS + 1])
def test_header_that_is_too_long_is_not_read(tmp_path, length):
    write(tmp_path, {}, length=length)
    assert refused(tmp_path) == (
        f"{tmp_path}: model.safetensors cannot be read as safetensors "
        f"(headers of {length:,} bytes); copy or save it again"
    )


def test_names_that_stand_twice_count_once(tmp_path):
    one = json.dumps(tensor([4], [0, 16]))
    write(tmp_path, f'{{"a": {one}, "a": {one}}}'.encode(), SIXTEEN)
    assert read_headers([str(tmp_path)]).n_values == 4


def test_more_tensors_than_numbers_are_refused(tmp_path):
    write(tmp_path, {str(number): tensor([0], [0, 0]) for number in range(60_000)})
    assert refused(tmp_path) == f"{tmp_path}: has 60,000 tensors that hold hardly a number"


def test_folder_of_that_name_is_refused(tmp_path):
    (tmp_path / "model.safetensors").mkdir()
    assert "model.safetensors cannot be read as safetensors (" in refused(tmp_path)
