"""The dataset of a model to take away: a folder that is complete without the project."""

from __future__ import annotations

import logging
from pathlib import Path

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.models.export import ExportedModel
from closer_look.system.storage import shown

log = logging.getLogger(__name__)


class ExportDataset(CausalLMDataset):
    """A folder with model, tokenizer, generation settings and model card; it logs its path.

    Example::

        "{scenario}.{cell}.export":
          type: closer_look.datasets.export_dataset.ExportDataset
          filepath: data/09_export/people/{scenario}/{cell}
    """

    def save(self, data: ExportedModel) -> None:
        """Save all files, or none.

        Raises:
            InputError: the disk has no room for them.
        """
        super().save(data)
        log.info("Export: %s", shown(self.folder))

    def _write(self, data: ExportedModel, folder: Path) -> None:
        super()._write(data.language_model, folder)
        data.language_model.model.generation_config.save_pretrained(folder)  # adapters lack it
        (folder / "README.md").write_text(data.card, encoding="utf-8")
