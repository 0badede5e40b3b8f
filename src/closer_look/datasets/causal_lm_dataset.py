"""The dataset of a causal language model and its tokenizer."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from kedro.io.core import AbstractDataset
from kedro_datasets._typing import JSONPreview

from closer_look.errors import InputError
from closer_look.models.language_model import (
    SPARE_BYTES,
    LanguageModel,
    PretrainedModel,
    load_language_model,
    load_pretrained,
    saved_bytes,
)
from closer_look.parameters.models import PromptParameters

PRETRAINED = "pretrained.json"


class CausalLMDataset(AbstractDataset[LanguageModel | PretrainedModel, LanguageModel]):
    """A folder with a model and its tokenizer; weights are safetensors only.

    It saves with ``save_pretrained`` and loads with ``from_pretrained``. For a pretrained model it
    stores only the name. A folder gets its name when it is complete, so a crash leaves no partial
    model. During a run (see ``models_handed_on``), the model that was saved or loaded last is kept
    in memory and not read again.

    Example::

        target_model:
          type: closer_look.datasets.causal_lm_dataset.CausalLMDataset
          filepath: data/06_models/main/target
    """

    _latest: ClassVar[dict[PurePosixPath, tuple[LanguageModel, object]] | None] = None

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            filepath: path of the folder.
            metadata: settings for kedro-viz.
        """
        self._filepath = PurePosixPath(filepath)
        self.metadata = metadata

    @classmethod
    @contextmanager
    def models_handed_on(cls) -> Iterator[None]:
        """Keep the latest model, at most one, in memory for the next load."""
        cls._latest = {}
        try:
            yield
        finally:
            cls._latest = None

    @property
    def folder(self) -> Path:
        """Folder of the model, which need not exist yet."""
        return Path(self._filepath)

    def load(self) -> LanguageModel:
        """Load model and tokenizer, from memory if the run's latest model is unchanged.

        Raises:
            InputError: the folder holds no model or no tokenizer.
        """
        if self._latest is None:
            return self._read()
        held, weights = self._latest.get(self._filepath, (None, None))
        if held is None or _weights(held) != weights:
            self._latest.clear()  # free it before reading another
            held = self._read()
            self._hand_on(held)
        return held

    def _read(self) -> LanguageModel:
        if not self._exists():
            raise InputError(
                f"{self._filepath}: there is no model yet; the pipeline that makes it runs first"
            )
        pretrained = Path(self._filepath, PRETRAINED)
        if pretrained.is_file():
            record = json.loads(pretrained.read_text(encoding="utf-8"))
            settings = PromptParameters.model_validate(record["settings"])
            return load_pretrained(PretrainedModel(**record | {"settings": settings}))
        return load_language_model(str(self._filepath))

    def _hand_on(self, language_model: LanguageModel) -> None:
        self._latest.clear()
        self._latest[self._filepath] = (language_model, _weights(language_model))

    def _release(self) -> None:
        if self._latest:
            self._latest.pop(self._filepath, None)

    def save(self, data: LanguageModel | PretrainedModel) -> None:
        """Save model and tokenizer, or the name of a pretrained model.

        Raises:
            InputError: the disk has no room for them; nothing is written.
        """
        target = Path(self._filepath)
        partial = target.with_name(f"{target.name}.partial")
        replaced = target.with_name(f"{target.name}.replaced")
        for left_by_a_crash in (partial, replaced):
            shutil.rmtree(left_by_a_crash, ignore_errors=True)
        try:
            self._write(data, partial)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        if target.exists():
            target.rename(replaced)  # a crash while deleting it in place would leave a broken model
        partial.rename(target)
        shutil.rmtree(replaced, ignore_errors=True)
        if self._latest is not None and isinstance(data, LanguageModel):
            if not hasattr(data.model, "peft_config"):
                data.model.name_or_path = str(target)  # adapters will store it as their base
            self._hand_on(data)

    def _write(self, data: LanguageModel | PretrainedModel, folder: Path) -> None:
        if isinstance(data, PretrainedModel):
            folder.mkdir(parents=True)
            record = data._asdict() | {"settings": data.settings.model_dump(mode="json")}
            (folder / PRETRAINED).write_text(json.dumps(record), encoding="utf-8")
            return
        target = Path(self._filepath)
        target.parent.mkdir(parents=True, exist_ok=True)
        needed = saved_bytes(data.model) + SPARE_BYTES
        free = shutil.disk_usage(target.parent).free
        if free < needed:
            raise InputError(
                f"{target}: the model needs {needed / 2**20:,.0f} MB, "
                f"the disk has {free / 2**20:,.0f} MB left"
            )
        data.model.save_pretrained(folder)
        # How a tokenizer was read must not change the files: the same model gives the same bytes.
        for how_it_was_read in ("is_local", "local_files_only"):
            data.tokenizer.init_kwargs.pop(how_it_was_read, None)
        data.tokenizer.save_pretrained(folder)

    def sources(self) -> list[str]:
        """List the folders that hold the model's files; empty if there is no model."""
        if not self._exists():
            return []
        pretrained = Path(self._filepath, PRETRAINED)
        record = json.loads(pretrained.read_text("utf-8")) if pretrained.is_file() else {}
        name = record.get("name", "")
        return [str(self._filepath), *([name] if Path(name).is_dir() and name else [])]

    def preview(self) -> JSONPreview:
        """Show the configuration of the model or its adapters, or its name, in kedro-viz."""
        configuration = self._configuration().read_text(encoding="utf-8")
        return JSONPreview(json.dumps(json.loads(configuration)))

    def _exists(self) -> bool:
        return self._configuration().is_file()

    def _configuration(self) -> Path:
        names = ("adapter_config.json", PRETRAINED, "config.json")
        found = [Path(self._filepath, name) for name in names]
        return next((path for path in found if path.is_file()), found[-1])

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._filepath)}


def _weights(language_model: LanguageModel) -> dict[str, tuple[int, int]]:
    """Record where each weight is in memory and how often it was changed in place."""
    weights = language_model.model.named_parameters()
    return {name: (weight.data_ptr(), weight._version) for name, weight in weights}
