"""The disk fills up at every file that a run writes, one after another.

Each file is refused at its first write, as the system refuses it: what Python writes fails when its
buffer is flushed, what Rust writes (weights, tokenizers) with an error in words.
"""

import builtins
import copy
import errno
import io
import os
import re
from pathlib import Path

import pandas as pd
import pytest

from closer_look.errors import InputError
from closer_look.project.configuration import ConfigLoader
from closer_look.system.processes import here

RESULTS = ("summary_table", "metrics", "answers", "training_logs", "fingerprints")
VERSION = r"\d{4}-\d\d-\d\dT[\d.]+Z"
PARTIAL = rf"(\.[0-9a-f]{{8}}\.{re.escape(here())})?(\.\d+)?\.partial(?=/|$)"
IN_WORDS = f"{os.strerror(errno.ENOSPC)} (os error {errno.ENOSPC})"
FULL = (
    "the disk is full; finished results are kept. Free some space, then run the same command with "
    "--only-missing-outputs"
)


class _NoSpace(io.RawIOBase):
    def writable(self):
        return True

    def write(self, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def parameters(make_corpus):
    return {"experiment": {"methods": ["ga_kl"]}, "corpus": make_corpus().as_posix()}


@pytest.fixture
def read_once(monkeypatch):
    """The configuration is the same in all sessions of the test, and takes half of their time."""
    read, known = ConfigLoader.__getitem__, {}

    def get(self, key):
        if key not in known:
            known[key] = read(self, key)
        return copy.deepcopy(known[key])

    monkeypatch.setattr(ConfigLoader, "__getitem__", get)


class _Refused:
    """The names of the files that have failed, and which part of all files is to fail."""

    def __init__(self):
        self.names, self.are_results = [], False

    def is_of_part(self, name):
        return (name >= "07_") == self.are_results


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


@pytest.fixture
def refused(monkeypatch, data):
    """Let each file below the folder fail once."""
    import safetensors.torch
    import transformers.modeling_utils
    from transformers import PreTrainedTokenizerFast

    found = _Refused()

    def fails(path):
        path = Path(path).absolute()
        if not path.is_relative_to(data):
            return False
        name = re.sub(VERSION, "*", path.relative_to(data).as_posix())
        name = re.sub(PARTIAL, "", name)
        is_new = found.is_of_part(name) and name not in found.names
        found.names.extend([name] * is_new)
        return is_new

    opened, written = builtins.open, os.write

    def open_file(file, mode="r", *args, **options):
        real = opened(file, mode, *args, **options)
        if not set(mode) & set("wax+") or isinstance(file, int) or not fails(file):
            return real
        real.close()
        full = io.BufferedWriter(_NoSpace())
        return full if "b" in mode else io.TextIOWrapper(full)

    def write(file, content):
        for path in data.rglob("*.jsonl"):
            if os.path.samestat(os.fstat(file), path.stat()) and fails(path):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written(file, content)

    def save_file(tensors, path, *args, **options):
        if fails(path):
            Path(path).touch()
            raise safetensors.SafetensorError(f"Error while serializing: I/O error: {IN_WORDS}")
        saved(tensors, path, *args, **options)

    def save_tokenizer(self, **options):
        path = Path(options["save_directory"], "tokenizer.json")
        if fails(path):
            path.touch()
            raise Exception(IN_WORDS)  # as tokenizers does
        return tokenizer_saved(self, **options)

    saved = safetensors.torch.save_file
    tokenizer_saved = PreTrainedTokenizerFast._save_pretrained
    monkeypatch.setattr(builtins, "open", open_file)
    monkeypatch.setattr(io, "open", open_file)
    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(safetensors.torch, "save_file", save_file)
    monkeypatch.setattr(transformers.modeling_utils, "safe_save_file", save_file)
    monkeypatch.setattr(PreTrainedTokenizerFast, "_save_pretrained", save_tokenizer)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("part", ["models", "answers and results"])
def test_at_every_file_of_a_run_in_turn(
    part, kedro_run, load_result, once, parameters, refused, read_once, data, monkeypatch
):
    refused.are_results = part == "answers and results"
    while True:
        before = list(refused.names)
        try:
            kedro_run(data, "fictitious", parameters=parameters, only_missing_outputs=True)
        except InputError as error:
            assert str(error) == FULL
            assert len(refused.names) == len(before) + 1
            assert half_written(data) == [], refused.names[-1]
        else:
            break
    assert refused.names == before
    monkeypatch.undo()
    undisturbed = once(
        "undisturbed of one task",
        lambda folder: kedro_run(folder, "fictitious", parameters=parameters),
    )
    assert written(undisturbed) == written(data)
    assert sorted(before) == [name for name in written(data) if refused.is_of_part(name)]
    for name in (f"fictitious.{result}" for result in RESULTS):
        first, second = (load_result(one, name, parameters) for one in (undisturbed, data))
        pd.testing.assert_frame_equal(first, second)


def half_written(folder):
    return [path for path in folder.rglob("*") if path.suffix in (".partial", ".replaced")]


def written(folder):
    """Names of the files that a run has written, without the time of its start."""
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    return sorted({re.sub(VERSION, "*", name) for name in files if not name.endswith(".lock")})
