"""The current model: where it is, and whether it is the one that the ledger names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from closer_look.errors import InputError
from closer_look.models.language_model import model_fingerprint
from closer_look.system.storage import shown

if TYPE_CHECKING:
    from closer_look.erasure.chain import Chain
    from closer_look.models.language_model import LanguageModel


class Models(Protocol):
    """Where the models are; see ``datasets.served_models_dataset``."""

    def load(self, sha256: str | None) -> LanguageModel:
        """Load a model; None loads the one before all requests."""

    def save(self, sha256: str, language_model: LanguageModel) -> None:
        """Save a model, whole or not at all."""

    def place(self, sha256: str) -> Path | str:
        """Return the folder of a model, or its URL."""


def load_current(models: Models, chain: Chain) -> LanguageModel:
    """Load the model that is current in a chain.

    Raises:
        InputError: it is not the one that the ledger names.
    """
    is_first = chain.current in (None, chain.first)
    model = models.load(None if is_first else chain.current)
    named = chain.current or chain.first
    if named and model_fingerprint(model) != named:
        place = "the target model" if is_first else shown(models.place(named))
        raise InputError(
            f"{place} is not the current model {named[:16]} of the ledger: put it back, or begin "
            f"another chain: --params run=NAME"
        )
    return model
