"""A model of the hub, or of a folder that somebody else wrote, as a catalog entry."""

from __future__ import annotations

from typing import Any

from kedro.io.core import AbstractDataset, DatasetError

from closer_look.language_model import LanguageModel, load_language_model


class PretrainedModelDataset(AbstractDataset[None, LanguageModel]):
    """Reads a causal language model by name; never writes one.

    Example:
        ```yaml
        target_model:
          type: closer_look.datasets.pretrained_model_dataset.PretrainedModelDataset
          name: locuslab/tofu_ft_llama2-7b
          prompt: llama2
        ```
    """

    def __init__(
        self,
        *,
        name: str,
        prompt: str = "chat_template",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """Describe which model.

        Args:
            name: hub name, or a folder.
            prompt: how a question becomes a prompt, see ``prompts.set_prompt``.
            metadata: for kedro-viz.
        """
        self._name = name
        self._prompt = prompt
        self.metadata = metadata

    def load(self) -> LanguageModel:
        """Load model and tokenizer.

        Raises:
            InputError: there is no usable model or tokenizer under that name.
        """
        return load_language_model(self._name, self._prompt)

    def save(self, data: None) -> None:
        """Somebody else's model is never written."""
        raise DatasetError(f"{self._name} is read only")

    def _describe(self) -> dict[str, Any]:
        return {"name": self._name, "prompt": self._prompt}
