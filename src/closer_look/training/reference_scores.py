"""Scores of the frozen reference model, and a cache that stores them on disk."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from closer_look.errors import first_line
from closer_look.system.processes import partial_of
from closer_look.system.storage import is_url, opened

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

    from closer_look.models.tokens import Tokens

log = logging.getLogger(__name__)


class ReferenceScores(NamedTuple):
    """The frozen reference's scores that the losses of a method read.

    Attributes:
        nll: ``row_id``, ``text``, ``nll`` (nats, summed over tokens) of forget rows.
        hidden_states: row id -> (positions, hidden size), the inputs of the output head.
        output_head: weights of the ``OutputHead`` that turns the states into the reference's
            logits, by name; empty without states.
        activations: row id -> (positions, hidden size), the output of a layer.
    """

    nll: pd.DataFrame
    hidden_states: Mapping[str, Tensor] = MappingProxyType({})
    output_head: Mapping[str, Tensor] = MappingProxyType({})
    activations: Mapping[str, Tensor] = MappingProxyType({})


class ReferenceCache:
    """A folder with one file of tensors per key; files never change, and any may be deleted.

    It may be the URL of a folder in a bucket. Without a folder, nothing is stored.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = folder

    def get(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Load the tensors of a key; if there are none, or damaged ones, compute and store them."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file, save_file

        if self.folder is None:
            return compute()
        if is_url(self.folder):
            return self._get_remote(f"{self.folder}/{key}.safetensors", compute)
        path = self.folder / f"{key}.safetensors"
        try:
            return load_file(path)
        except FileNotFoundError:
            pass
        except (OSError, SafetensorError) as error:
            log.warning("%s is damaged (%s) and is computed again", path, first_line(error))
        tensors = dict(compute())
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = partial_of(path)
        try:
            save_file(tensors, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        return load_file(path)

    def _get_remote(
        self, url: str, compute: Callable[[], Mapping[str, Tensor]]
    ) -> Mapping[str, Tensor]:
        """As ``get``: an object appears when all of it is there."""
        from safetensors import SafetensorError
        from safetensors.torch import load, save_file

        filesystem, path = opened(url)
        try:
            return load(filesystem.cat_file(path))
        except FileNotFoundError:
            pass
        except SafetensorError as error:
            log.warning("%s is damaged (%s) and is computed again", url, first_line(error))
        tensors = dict(compute())
        with tempfile.NamedTemporaryFile() as file:
            save_file(tensors, file.name)
            filesystem.put_file(file.name, path)
        return tensors


def cache_key(fingerprint: str, kind: str, rows: Sequence[Tokens], *determined_by: str) -> str:
    """Hash all that scores follow from.

    Args:
        fingerprint: of the model.
        kind: what is computed.
        rows: as tokens, in their order.
        determined_by: code and versions of libraries.
    """
    return hashlib.sha256(json.dumps([fingerprint, kind, rows, determined_by]).encode()).hexdigest()
