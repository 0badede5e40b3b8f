"""A tokenizer's file holds programs, too: regular expressions, replacements, templates."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import pydantic_core

from closer_look.errors import InputError, first_line, quote
from closer_look.models.rehearsal import rehearse

FILE = "tokenizer.json"
ADDED = {FILE: "added_tokens", "tokenizer_config.json": "added_tokens_decoder"}
MOST_ADDED = 100_000  # models that speak have 65,536
LONGEST = 100_000  # tokens that a tokenizer may put around a text, or pad it to

NO_WORDS = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
RUNS = [*string.printable, "é", "中", "▁", "Ġ", "ab", "a ", "1a", " \n", "a.", "'s"]
ENDS = ("", f"!{string.printable}")  # an expression is tried only on texts with its letters
PROBES = [
    *(run * 40 + end for run in RUNS for end in ENDS),
    *(run * 1000 + ENDS[1] for run in "a1 \n"),
]


def check_tokenizer(folder: str) -> None:
    """Try a tokenizer on texts that expressions which never come to an end would stumble on.

    Its vocabulary is left out: it takes most of the time to load, and nothing in it can loop. What
    transformers makes of other files than ``tokenizer.json`` has its own expressions.

    Args:
        folder: of a model; see ``model_folder.check_folder``. Of another name nothing is tried.

    Raises:
        InputError: it took too much time or memory, makes too much of a text, or has too many
            tokens beside its vocabulary.
        ValueError: the file is none of a tokenizer.
    """
    paths = [path for name in ADDED if (path := Path(folder, name)).is_file()]
    if paths:
        rehearse([folder], FILE, lambda: _try(paths))


def _try(paths: list[Path]) -> None:
    for path in paths:
        settings = pydantic_core.from_json(path.read_bytes())
        if not isinstance(settings, dict):
            continue  # its loader will refuse it
        if len(settings.get(ADDED[path.name]) or ()) > MOST_ADDED:
            raise InputError(
                f"{path.parent}: {path.name} has more than {MOST_ADDED:,} added tokens"
            )
        if path.name == FILE:
            _try_on_probes(path, settings)


def _try_on_probes(path: Path, settings: dict[str, Any]) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(json.dumps(settings | {"model": NO_WORDS}))
    n_tokens = len(tokenizer.encode("").ids)
    if n_tokens > LONGEST:
        raise InputError(f"{path.parent}: {FILE} makes {n_tokens:,} tokens of an empty text")
    for text in PROBES:
        try:
            tokenizer.encode(text)
            if tokenizer.decoder:
                tokenizer.decoder.decode([text, text])
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:  # a panic of Rust is no Exception
            raise InputError(
                f"{path.parent}: {FILE} fails on {quote(text)} ({first_line(error)}); take another "
                f"tokenizer"
            ) from None
