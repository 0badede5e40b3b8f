"""Reference scores kept under a hash of what they depend on: methods and runs share them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from closer_look.language_model import LanguageModel


class ReferenceCache:
    """A folder of tensors, a file a key; none is ever changed, and any may be deleted.

    Without a folder nothing is kept.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def get(self, key: str, compute: Callable[[], Mapping[str, Tensor]]) -> Mapping[str, Tensor]:
        """Read what is kept under the key; where nothing is, compute and keep it."""
        from safetensors.torch import load_file, save_file

        if self.folder is None:
            return compute()
        path = self.folder / f"{key}.safetensors"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            partial = path.with_suffix(f".{os.getpid()}.partial")
            save_file(dict(compute()), partial)
            partial.replace(path)
        return load_file(path)


def cache_key(fingerprint: str, kind: str, rows: Sequence[Sequence[str]]) -> str:
    """Hash of a model's fingerprint, of what is computed, and of the texts, in order."""
    return hashlib.sha256(json.dumps([fingerprint, kind, rows]).encode()).hexdigest()


def model_fingerprint(language_model: LanguageModel) -> str:
    """Hash of the weights, adapters included, and of how a question becomes tokens."""
    import torch

    model, tokenizer = language_model
    digest = hashlib.sha256()
    for name, weights in model.state_dict().items():  # detached from what is trained
        digest.update(f"{name} {tuple(weights.shape)} {weights.dtype}\n".encode())
        digest.update(weights.contiguous().flatten().view(torch.uint8).cpu().numpy())
    digest.update(str(tokenizer.chat_template).encode())
    digest.update(json.dumps(tokenizer.get_vocab(), sort_keys=True).encode())
    return digest.hexdigest()
