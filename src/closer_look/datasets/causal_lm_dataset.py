"""The dataset of a causal language model and its tokenizer."""

from __future__ import annotations

import json
import shutil
import tempfile
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
from closer_look.models.model_folder import ADAPTERS, check_folder, read_settings
from closer_look.parameters.models import PromptParameters
from closer_look.system import whole_folders
from closer_look.system.storage import is_url

BASE = "base_model_name_or_path"  # in the configuration of adapters
PRETRAINED = "pretrained.json"
CONFIGURATIONS = (ADAPTERS, PRETRAINED, "config.json")


class CausalLMDataset(AbstractDataset[LanguageModel | PretrainedModel, LanguageModel]):
    """A folder with a model and its tokenizer; weights are safetensors only.

    It saves with ``save_pretrained`` and loads with ``from_pretrained``. For a pretrained model it
    stores only the name. A folder gets its name when it is complete, so a crash leaves no partial
    model. During a run (see ``models_handed_on``), the model that was saved or loaded last is kept
    in memory and not read again. In a bucket it is uploaded whole or not at all, and read through
    the cache of this machine (see ``system.whole_folders``).

    Example::

        target_model:
          type: closer_look.datasets.causal_lm_dataset.CausalLMDataset
          filepath: data/06_models/main/target
    """

    _latest: ClassVar[dict[str, tuple[LanguageModel, object]] | None] = None

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """Set up.

        Args:
            filepath: path or URL of the folder.
            metadata: settings for kedro-viz.
        """
        self._filepath = filepath if is_url(filepath) else PurePosixPath(filepath).as_posix()
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
    def folder(self) -> Path | str:
        """Folder of the model, or its URL, which need not exist yet."""
        return self._filepath if is_url(self._filepath) else Path(self._filepath)

    def load(self) -> LanguageModel:
        """Load model and tokenizer, from memory if the run's latest model is unchanged.

        Raises:
            InputError: the folder holds no model or no tokenizer.
        """
        if self._latest is None:
            return self._read()
        held, weights = self._latest.get(self._filepath, (None, None))
        if held is None or _weights(held) != weights:
            held = None  # free it before reading another
            self._latest.clear()
            held = self._read()
            self._hand_on(held)
        return held

    def _read(self) -> LanguageModel:
        if not self._exists():
            raise InputError(
                f"{self._filepath}: there is no model yet; the pipeline that makes it runs first"
            )
        folder = whole_folders.fetch(self._filepath) if is_url(self._filepath) else self.folder
        pretrained = folder / PRETRAINED
        if pretrained.is_file():
            record = json.loads(pretrained.read_text(encoding="utf-8"))
            settings = PromptParameters.model_validate(record["settings"])
            return load_pretrained(PretrainedModel(**record | {"settings": settings}))
        if not is_url(self._filepath):
            return load_language_model(str(folder))
        with _on_this_machine(folder) as (readable, base):
            held = load_language_model(str(readable))
        if base is None:
            held.model.name_or_path = self._filepath  # adapters will store it as their base
        else:
            held.model.peft_config["default"].base_model_name_or_path = base
            held.model.get_base_model().config.name_or_path = base  # for PEFT's README
            held.model.get_base_model().name_or_path = base
        return held

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
        if is_url(self._filepath):
            with whole_folders.written(self._filepath) as folder:
                self._write(data, folder)
        else:
            self._replace(data)
        if self._latest is not None and isinstance(data, LanguageModel):
            if not hasattr(data.model, "peft_config"):
                data.model.name_or_path = self._filepath  # adapters will store it as their base
            self._hand_on(data)

    def _replace(self, data: LanguageModel | PretrainedModel) -> None:
        target = self.folder
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

    def _write(self, data: LanguageModel | PretrainedModel, folder: Path) -> None:
        if isinstance(data, PretrainedModel):
            folder.mkdir(parents=True)
            record = data._asdict() | {"settings": data.settings.model_dump(mode="json")}
            (folder / PRETRAINED).write_text(json.dumps(record), encoding="utf-8")
            return
        needed = saved_bytes(data.model) + SPARE_BYTES
        if is_url(self._filepath):
            whole_folders.make_room(needed)
        else:
            self._check_room(needed)
        data.model.save_pretrained(folder)
        # How a tokenizer was read must not change the files: the same model gives the same bytes.
        for how_it_was_read in ("is_local", "local_files_only"):
            data.tokenizer.init_kwargs.pop(how_it_was_read, None)
        data.tokenizer.save_pretrained(folder)

    def _check_room(self, needed: int) -> None:
        parent = self.folder.parent
        parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(parent).free
        if free < needed:
            raise InputError(
                f"{self._filepath}: the model needs {needed / 2**20:,.0f} MB, "
                f"the disk has {free / 2**20:,.0f} MB left"
            )

    def sources(self) -> list[str]:
        """List what holds the model's files, or their hashes; empty if there is no model."""
        configuration = self._configuration()
        if configuration is None:
            return []
        record = self._settings(configuration) if configuration == PRETRAINED else {}
        name = record.get("name", "")
        held = whole_folders.marker(self._filepath) if is_url(self._filepath) else self._filepath
        return [held, *check_folder(name)]

    def preview(self) -> JSONPreview:
        """Show the configuration of the model or its adapters, or its name, in kedro-viz."""
        return JSONPreview(json.dumps(self._settings(self._configuration() or CONFIGURATIONS[-1])))

    def _exists(self) -> bool:
        return self._configuration() is not None

    def _configuration(self) -> str | None:
        """Return the name of the file that says what the model is; None if there is no model."""
        if is_url(self._filepath):
            names = whole_folders.names(self._filepath)
        else:
            names = [name for name in CONFIGURATIONS if Path(self._filepath, name).is_file()]
        return next((name for name in CONFIGURATIONS if name in names), None)

    def _settings(self, name: str) -> dict[str, Any]:
        if is_url(self._filepath):
            return json.loads(whole_folders.read_file(self._filepath, name))
        return json.loads(Path(self._filepath, name).read_text(encoding="utf-8"))

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


@contextmanager
def _on_this_machine(folder: Path) -> Iterator[tuple[Path, str | None]]:
    """Let adapters whose base model is a URL be read: a copy names its folder in the cache.

    Yields:
        The folder to read, and the URL.
    """
    settings = read_settings(folder / ADAPTERS)
    base = settings.get(BASE)
    if not is_url(base):
        yield folder, None
        return
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True)
        here = settings | {BASE: str(whole_folders.fetch(base))}
        Path(copy, ADAPTERS).write_text(json.dumps(here), encoding="utf-8")
        yield Path(copy), base


def _weights(language_model: LanguageModel) -> dict[str, tuple[int, int]]:
    """Record where each weight is in memory and how often it was changed in place."""
    weights = language_model.model.named_parameters()
    return {name: (weight.data_ptr(), weight._version) for name, weight in weights}
