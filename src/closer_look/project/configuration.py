"""The project's configuration: paths of the catalog, and the parameters that stand in them."""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from kedro.config import OmegaConfigLoader

from closer_look.datasets.whole_files import upload_whole_files
from closer_look.errors import InputError, listed, quote
from closer_look.parameters.groups import RUNTIME
from closer_look.system.storage import is_url

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline

OF_ROWS = ("corpus", "forget_split")  # the others are in the paths of what a run makes


class ConfigLoader(OmegaConfigLoader):
    """A loader that knows ``~`` as the user's folder, in all paths of the catalog.

    What lies at URLs is written whole or not at all. Each kind is read once: to build the pipelines
    asks for the parameters again and again.
    """

    def __getitem__(self, key: str) -> dict[str, Any]:
        """Return the configuration of a kind, such as "catalog"."""
        read: dict[str, dict[str, Any]] = self.__dict__.setdefault("_read", {})
        if key not in read:
            read[key] = self._load(key)
        return copy.deepcopy(read[key])

    def _load(self, key: str) -> dict[str, Any]:
        config = super().__getitem__(key)
        if key != "catalog":
            return config
        upload_whole_files(
            path for entry in config.values() if is_url(path := entry.get("filepath", ""))
        )
        return {
            name: {field: _expanded(value) for field, value in entry.items()}
            for name, entry in config.items()
        }


def check_paths(given: Mapping[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse a parameter of paths that no path has: a run would read or write elsewhere.

    Args:
        given: the runtime parameters (``--params``).
        pipeline: the nodes that are to run.
        catalog: the entries of the environment.

    Raises:
        InputError: naming the parameter and the entries that do not use it.
    """
    rows = sorted(name for name in pipeline.inputs() if name.startswith("raw_"))
    made = sorted(pipeline.all_outputs())
    for parameter in given.keys() & {*RUNTIME}:
        is_part = _as_part(str(given[parameter])).search
        without = []
        for name, path in _paths(rows if parameter in OF_ROWS else made, catalog):
            if is_part(path):
                break
            without.append(name)
        else:
            if without:
                raise InputError(
                    f"parameter {parameter}: {quote(given[parameter])} is in no path of "
                    f"{listed(without[:3])}; write ${{runtime_params:{parameter}, "
                    f"${{globals:{parameter}}}}} there, in the catalog of the environment"
                )


def _paths(names: Iterable[str], catalog: CatalogProtocol) -> Iterator[tuple[str, str]]:
    """Walk through the paths of entries, one after another: each is slow to find."""
    for name in names:
        if name in catalog:
            entry = catalog.config_resolver.resolve_pattern(name)
            if "filepath" in entry:
                yield name, str(entry["filepath"])


def _as_part(value: str) -> re.Pattern:
    """A pattern of paths that hold the value as folders, or as the beginning of a name."""
    written = value if "://" in value else PurePosixPath(_expanded(value)).as_posix()
    return re.compile(rf"(^|/){re.escape('' if written == '.' else written.rstrip('/'))}([/_.]|$)")


def _expanded(value: Any) -> Any:
    return os.path.expanduser(value) if isinstance(value, str) else value
