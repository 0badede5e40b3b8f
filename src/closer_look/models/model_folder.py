"""Checks that a model's folder holds data only: no pickle, code, device, or link out of it."""

from __future__ import annotations

import json
import os
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from closer_look.errors import InputError, quote

# Reading a pickle may run code. ``training_args.bin``, which trainers leave behind, is also a
# pickle, but nothing reads it.
PICKLED = (
    "pytorch_model*.bin",
    "adapter_model*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.pkl",
    "*.pickle",
)
READ = (  # files that loaders read as a whole
    *("*config*.json", "tokenizer*.json", "vocab*", "merges.txt", "*.model", "*.index.json"),
    *("special_tokens_map.json", "added_tokens.json", "modules.json", "chat_template*"),
)
LARGEST_READ = 100 * 2**20  # bytes; a tokenizer of 256,000 tokens has 35 MB
ADAPTERS = "adapter_config.json"
CONFIGURATIONS = ("config.json", ADAPTERS)
SAFE_WEIGHTS = (".safetensors", ".safetensors.index.json")


def check_folder(name: str) -> list[str]:
    """Check that a model's folder, and the folders of its adapters' base models, hold only data.

    Args:
        name: a folder; a hub name passes unchecked.

    Returns:
        The folders.

    Raises:
        InputError: a file is a pickle, code, a device, too large or a link out of the folder, or
            refers to one of these; the message names the first.
    """
    checked: list[str] = []
    waiting = [name]
    while waiting:
        name = waiting.pop()
        if name in checked or not os.path.isdir(name):
            continue
        checked.append(name)
        folder = Path(name)
        for path in sorted(folder.rglob("*")):
            fault = _find_fault(path, folder)
            if fault:
                raise InputError(f"{folder}: {path.relative_to(folder)} {fault}")
            if path.name == ADAPTERS:
                waiting.append(str(read_settings(path).get("base_model_name_or_path")))
    return checked


def local_folder(name: str) -> str | None:
    """Return the local folder of a model's files, or None.

    Args:
        name: a folder; or a hub name, whose files are in the hub's cache after the first load.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    if os.path.isdir(name):
        return name
    for file in CONFIGURATIONS:
        try:
            found = try_to_load_from_cache(name, file)
        except HFValidationError:  # not a hub name: a model that comes in a Python package
            return None
        if isinstance(found, str):
            return os.path.dirname(found)
    return None


def _find_fault(path: Path, folder: Path) -> str | None:
    return _fault_of_file(path, folder) or _fault_of_content(path)


def _fault_of_file(path: Path, folder: Path) -> str | None:
    if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(folder.resolve()):
        return (
            "is a link out of the folder; put the file itself there "
            "(hf download NAME --local-dir FOLDER does, for a model of the hub)"
        )
    if not (path.is_file() or path.is_dir()):  # to read from a pipe may take for ever
        return "is a pipe, a device, or a link that leads to no file; take it out"
    if any(fnmatch(path.name, pattern) for pattern in READ) and path.stat().st_size > LARGEST_READ:
        return f"is larger than {LARGEST_READ // 2**20} MB, which no model needs; take it out"
    if any(fnmatch(path.name.lower(), pattern) for pattern in PICKLED):
        return (
            "is a pickle, which may run code when it is read; take it out, "
            "and have the weights in safetensors, as save_pretrained writes them"
        )
    return None


def _fault_of_content(path: Path) -> str | None:
    if path.suffix == ".py" or (fnmatch(path.name, "*config*.json") and _asks_for_code(path)):
        what = "is code" if path.suffix == ".py" else "asks for code of the model's own (auto_map)"
        return f"{what}, which is never run; take it out if transformers knows the model without it"
    for module in _modules(path):
        if not module.startswith("sentence_transformers."):
            return f"asks for code of the model's own ({module}), which is never run"
    for file in _named_weights(path):
        suffixes = SAFE_WEIGHTS if path.name == "config.json" else SAFE_WEIGHTS[:1]
        if not str(file).endswith(suffixes) or Path(file).name != file:
            return f"names the weights {quote(file)}; only safetensors in the same folder are read"
    return None


def _asks_for_code(path: Path) -> bool:
    return bool(read_settings(path).get("auto_map"))


def _modules(path: Path) -> list[str]:
    """List the classes that a sentence-transformers model is built from."""
    found = _read(path) if path.name == "modules.json" else None
    modules = found if isinstance(found, list) else ()
    return [str(module.get("type")) for module in modules if isinstance(module, dict)]


def _named_weights(path: Path) -> list[object]:
    """List the weight files that a configuration or index names."""
    if path.name == "config.json":
        named = read_settings(path).get("transformers_weights")
        return [named] if named else []
    if path.name.endswith(".safetensors.index.json"):
        named = read_settings(path).get("weight_map", {})
        return list(named.values()) if isinstance(named, dict) else [named]
    return []


def read_settings(path: Path) -> dict[str, Any]:
    """Read a configuration in JSON; empty if the file holds none."""
    found = _read(path)
    return found if isinstance(found, dict) else {}


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):  # no JSON: its own loader will refuse it
        return None
