"""What a node's outputs depend on: parameters, catalog entries, code, inputs, libraries."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from kedro.io.core import AbstractVersionedDataset

from closer_look.models.model_folder import local_folder
from closer_look.parameters.groups import MODEL_NAMES, NAMED, RUNTIME, as_model
from closer_look.reporting.run_record import plain, recorded_parameters
from closer_look.system.code import code_fingerprint, code_hash
from closer_look.system.fingerprints import Fingerprint, fingerprint

if TYPE_CHECKING:
    from kedro.io import AbstractDataset, CatalogProtocol
    from kedro.pipeline.node import Node

FORMAT = 3  # of a record; those of other formats cannot be compared
LIBRARIES = (
    *("torch", "transformers", "tokenizers", "peft", "accelerate", "safetensors"),
    *("sentence-transformers", "rouge-score", "numpy", "scipy", "pandas"),
)
"""Libraries whose arithmetic is part of the results."""

NOT_OUR_CODE = ("kedro", "kedro_datasets")  # their versions are not recorded: they only store
WHERE = ("filepath", "details", "metadata", "source", "version", "credentials")
"""Arguments of a catalog entry that say where the content is, not what it is."""

Record = dict[str, Any]
"""A line of the provenance: ``format``, ``node``, ``parameters`` (name -> value), ``catalog``
(dataset -> arguments), ``code`` (name -> hash), ``libraries`` (name -> version), ``inputs`` (name
-> fingerprint) and, once they are saved, ``outputs``; until then ``before``, which is what was
there under the outputs' names."""


def dependencies(node: Node, catalog: CatalogProtocol) -> Record:
    """Collect everything that the node's outputs depend on."""
    parameters = _parameters(node, catalog)
    datasets = _datasets(node, catalog)
    return {
        "format": FORMAT,
        "node": node.name,
        "parameters": parameters,
        "catalog": {
            name: found for name, one in datasets.items() if (found := _settings(one._init_args))
        },
        "code": code_of(node, catalog),
        "libraries": library_versions(),
        "inputs": dataset_fingerprints(node.inputs, catalog) | model_fingerprints(parameters),
    }


def code_of(node: Node, catalog: CatalogProtocol) -> dict[str, str]:
    """Hash the code of a node, of its datasets, and what its parameters name.

    A process reads each source file once: the hashes are those of the first time that it asks.
    """
    return (
        code_fingerprint(node.func)
        | _code_of_datasets(_datasets(node, catalog).values())
        | _named_code(node, catalog)
    )


def _datasets(node: Node, catalog: CatalogProtocol) -> dict[str, AbstractDataset]:
    """Return a node's datasets; before a run begins, those in memory are not in the catalog."""
    names = [name for name in (*node.inputs, *node.outputs) if not is_parameter(name)]
    return {name: catalog[name] for name in names if name in catalog}


def dataset_fingerprints(names: Iterable[str], catalog: CatalogProtocol) -> dict[str, Fingerprint]:
    """Fingerprint those datasets that hold something on which results depend."""
    files = {name: _files(catalog[name]) for name in names if not is_parameter(name)}
    return {name: fingerprint(paths) for name, paths in files.items() if paths}


def model_fingerprints(parameters: Mapping[str, Any]) -> dict[str, Fingerprint]:
    """Fingerprint the models that parameters name, as far as their files are on this machine."""
    folders = {path: local_folder(name) for path, name in named_models(parameters)}
    return {path: fingerprint([folder]) for path, folder in folders.items() if folder is not None}


def named_models(parameters: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Walk through the models that parameters name: path of the parameter, name or folder."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from named_models(value, f"{path}{name}.")
        elif name in MODEL_NAMES and isinstance(value, str):
            yield f"{path}{name}", value


@cache
def library_versions() -> dict[str, str]:
    """Return the versions of the libraries whose arithmetic is part of the results."""
    return {name: metadata.version(name) for name in LIBRARIES}


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a catalog entry sets, without paths: the content that lies there is compared."""
    # Kedro stores further arguments as a mapping below the name that the signature has for them.
    plain_values = {
        name: _settings(value) if isinstance(value, Mapping) else value
        for name, value in given.items()
        if name not in WHERE
    }
    return {
        name: value if isinstance(value, str | int | float | dict) else repr(value)
        for name, value in plain_values.items()
        if value not in (None, {}, ())
    }


def _code_of_datasets(datasets: Iterable[AbstractDataset]) -> dict[str, str]:
    """Hash the code that reads and writes datasets, each class to one word."""
    classes = {type(dataset) for dataset in datasets}
    return {
        f"dataset {one.__name__}": code_hash(f"{one.__module__}:{one.__name__}")
        for one in classes
        if one.__module__.partition(".")[0] not in NOT_OUR_CODE
    }


def is_parameter(name: str) -> bool:
    """Tell parameters from datasets."""
    return name == "parameters" or name.startswith("params:")


def _files(dataset: AbstractDataset) -> list[str]:
    """List the files that hold a dataset's content; datasets of the project name them."""
    if hasattr(dataset, "sources"):
        return dataset.sources()
    if not isinstance(dataset, AbstractVersionedDataset) or not dataset.exists():
        return []
    protocol = getattr(dataset, "_protocol", "file")
    path = str(dataset._get_load_path())
    return [path if protocol == "file" else f"{protocol}://{path}"]


def _parameters(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """Return the parameters that the node's outputs depend on (see ``depends_on``)."""
    fields_of = getattr(node.func, "depends_on", {})
    ignored = getattr(node.func, "ignores", {})
    found = {}
    for argument, name in _arguments(node).items():
        if name == "parameters":
            found |= plain(_load(name, catalog))
        elif is_parameter(name):
            value = plain(_load(name, catalog))
            if argument in fields_of:
                value = {field: value[field] for field in fields_of[argument] if field in value}
            if argument in ignored:
                value = {k: v for k, v in value.items() if k not in ignored[argument]}
            found[name.removeprefix("params:")] = value
    return found


def _load(name: str, catalog: CatalogProtocol) -> Any:
    """Load a parameter as its model, also where no pipeline of this run takes it.

    Otherwise the defaults that Kedro's models fill in would be missing from a comparison.
    """
    value = catalog.load(name)
    if name != "parameters":
        return as_model(name.removeprefix("params:"), value)
    groups = {group: as_model(group, one) for group, one in value.items() if group not in RUNTIME}
    for group in NAMED:
        named = value.get(group) or {}
        groups[group] = {key: as_model(f"{group}.{key}", one) for key, one in named.items()}
    return recorded_parameters(groups)


def _named_code(node: Node, catalog: CatalogProtocol) -> dict[str, str]:
    """Hash the code that the node's parameters name: a method's losses, metrics of one's own."""
    values = [_load(name, catalog) for name in node.inputs if is_parameter(name)]
    return {
        name: code_hash(code)
        for value in values
        for name, code in getattr(value, "named_code", {}).items()
    }


def _arguments(node: Node) -> dict[str, str]:
    """Return the dataset of each argument of the node's function."""
    if isinstance(node._inputs, dict):
        return node._inputs
    return dict(zip(inspect.signature(node.func).parameters, node.inputs, strict=False))
