"""Records what each artefact was made from, and checks that it is still up to date.

Kedro's own checks (``--only-missing-outputs``, ``--from-nodes``) see that results exist. The
history checks that they are those that the run would make: of the same rows, parameters, models
and code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from kedro.io.core import AbstractVersionedDataset
from kedro.pipeline import Pipeline

from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.errors import InputError, quote
from closer_look.models.model_folder import local_folder
from closer_look.parameters.groups import MODEL_NAMES, RUNTIME, as_model
from closer_look.reporting.run_record import plain, recorded_parameters
from closer_look.system.code import code_fingerprint, code_hash
from closer_look.system.fingerprints import Fingerprint, fingerprint, remember

if TYPE_CHECKING:
    from kedro.io import AbstractDataset, CatalogProtocol
    from kedro.pipeline.node import Node

PROVENANCE = "provenance"  # in the catalog
FORMAT = 2  # of a record; those of other formats cannot be compared

Record = dict[str, Any]
"""A line of the provenance: ``format``, ``node``, ``parameters`` (name -> value), ``code`` (name ->
hash), ``inputs`` (name -> fingerprint) and, once they are saved, ``outputs``; until then
``before``, which is what was there under the outputs' names."""


def dependencies(node: Node, catalog: CatalogProtocol) -> Record:
    """Collect everything that the node's outputs depend on: parameters, code, inputs."""
    parameters = _parameters(node, catalog)
    return {
        "format": FORMAT,
        "node": node.name,
        "parameters": parameters,
        "code": code_fingerprint(node.func) | _named_code(node, catalog),
        "inputs": dataset_fingerprints(node.inputs, catalog) | model_fingerprints(parameters),
    }


def dataset_fingerprints(names: Iterable[str], catalog: CatalogProtocol) -> dict[str, Fingerprint]:
    """Fingerprint those datasets that hold something on which results depend."""
    files = {name: _files(catalog[name]) for name in names if not _is_parameter(name)}
    return {name: fingerprint(paths) for name, paths in files.items() if paths}


def model_fingerprints(parameters: Mapping[str, Any]) -> dict[str, Fingerprint]:
    """Fingerprint the models that parameters name, as far as their files are on this machine."""
    folders = {path: local_folder(name) for path, name in _named_models(parameters)}
    return {path: fingerprint([folder]) for path, folder in folders.items() if folder is not None}


def _named_models(parameters: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Walk through the models that parameters name: path of the parameter, name or folder."""
    for name, value in parameters.items():
        if isinstance(value, dict):
            yield from _named_models(value, f"{path}{name}.")
        elif name in MODEL_NAMES and isinstance(value, str):
            yield f"{path}{name}", value


def check_models_are_kept(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse to write a model where one lies that a parameter names.

    Raises:
        InputError: naming the parameter and the dataset that would replace its model.
    """
    names = {name for name in pipeline.inputs() if name.startswith("params:")}
    given = {name.removeprefix("params:"): plain(catalog.load(name)) for name in sorted(names)}
    written = {
        Path(dataset.folder).resolve(): name
        for name in pipeline.outputs() | pipeline.datasets() - pipeline.inputs()
        if isinstance(dataset := catalog.get(name), CausalLMDataset)
    }
    for parameter, name in _named_models(given):
        folder = Path(name).resolve()
        if folder in written:
            raise InputError(
                f"parameter {parameter}: {quote(str(folder))} is where this run writes "
                f"'{written[folder]}', and would be replaced; copy it to another folder, or begin "
                f"another run: --params run=NAME"
            )


class History:
    """The nodes of a run that have finished, with what each of them worked from."""

    def __init__(
        self,
        catalog: CatalogProtocol,
        pipelines: Iterable[Pipeline],
        chosen: Collection[str] = (),
    ) -> None:
        """Read the provenance.

        Args:
            catalog: where it and all artefacts are.
            pipelines: all that the project has.
            chosen: datasets of which the user wants a certain version, however it was made.

        Raises:
            InputError: an earlier version of the project made the run.
        """
        self.catalog, self.chosen = catalog, chosen
        by_name = {node.name: node for pipeline in pipelines for node in pipeline.nodes}
        self.nodes = Pipeline(list(by_name.values())).nodes  # in an order in which they may run
        self.producers = {output: node for node in self.nodes for output in node.outputs}
        self.finished: dict[str, Record] = {}  # by node
        begun: dict[str, Record] = {}  # by node
        for record in catalog.load(PROVENANCE):
            if record.get("format") != FORMAT:
                raise InputError(_made_by_another_version(catalog[PROVENANCE].folder))
            for known in [*record["inputs"].values(), *record.get("outputs", {}).values()]:
                remember(Fingerprint(*known))
            begun.pop(record["node"], None)
            (self.finished if "outputs" in record else begun)[record["node"]] = record
        for name, record in begun.items():
            # The node was killed as it saved. If all its outputs are there, and none is what was
            # there before, then it had finished, and only its last record is missing.
            node = by_name.get(name)
            outputs = dataset_fingerprints(node.outputs, catalog) if node else {}
            if outputs and all(_written_since(record, *output) for output in outputs.items()):
                self.finished[name] = record | {"outputs": outputs}

    def check(self, to_run: Collection[Node], kept: Collection[Node]) -> None:
        """Refuse to reuse an artefact that this run would produce differently.

        Args:
            to_run: the nodes of this run.
            kept: nodes whose outputs are there, and are to stay as results of this run.

        Raises:
            InputError: the first difference, and the nodes from which it is mended.
        """
        # Only what is used without being made anew can be out of date.
        used = self._with_ancestors([*to_run, *kept]).difference(to_run)
        differences = {
            node: difference
            for node in self.nodes
            if node in used and (difference := next(self._differences(node, to_run), None))
        }
        if not differences:
            return
        # Name the nodes to start from: those to run again that no other of them comes before.
        again = {*differences, *(to_run if kept else ())}
        first = [
            node.name
            for node in self.nodes
            if node in again and not self._with_ancestors([node]).difference([node]) & again
        ]
        # A node that takes all parameters differs whatever has changed: it is reported last.
        reported = min(differences, key=lambda node: "parameters" in node.inputs)
        raise InputError(
            f"{differences[reported]}; --from-nodes={','.join(first)} makes anew what "
            f"depends on it, --params run=NAME begins another run"
        )

    def consumers(self, nodes: Collection[Node]) -> dict[str, dict[str, str]]:
        """List what nodes worked from: dataset -> node -> SHA-256."""
        found: dict[str, dict[str, str]] = {}
        for node in nodes:
            inputs = self.finished.get(node.name, {"inputs": {}})["inputs"]
            for name, (sha256, _) in inputs.items():
                found.setdefault(name, {})[node.name] = sha256
        return found

    def _with_ancestors(self, nodes: Iterable[Node]) -> set[Node]:
        found, waiting = set(), [*nodes]
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                made = [name for name in node.inputs if name not in self.chosen]
                waiting += [self.producers[name] for name in made if name in self.producers]
        return found

    def _differences(self, node: Node, to_run: Collection[Node]) -> Iterator[str]:
        """Say in what a node's outputs are not those that it would make now."""
        outputs = dataset_fingerprints(node.outputs, self.catalog)
        record = self.finished.get(node.name)
        if record is None:
            if outputs:
                yield f"there is no record of how {node.outputs[0]} was made"
            return
        now = json.loads(json.dumps(dependencies(node, self.catalog)))
        made = f"{node.outputs[0]} was made"
        for path, former, present in _changes(record["parameters"], now["parameters"]):
            yield f"{made} with {path} {_shown(former)}, which is {_shown(present)} now"
        # Inputs that this run makes anew are compared when they are there (see ProvenanceHooks).
        remade = {name for name in node.inputs if self.producers.get(name) in to_run}
        former, present = record["inputs"], self._recorded(node.inputs) | now["inputs"]
        for name in dict.fromkeys([*former, *present, *remade]):
            if name in self.chosen:
                continue
            if name not in former:
                yield f"{made} without {name}"
            elif name not in present:
                # A model that a parameter names may have left this machine since.
                if name not in node.inputs and name.rpartition(".")[2] not in MODEL_NAMES:
                    yield f"{made} with {name}, which is no longer part of it"
            elif name not in remade and present[name][0] != former[name][0]:
                yield f"{made} from another {name} than there is now"
        for name, *_ in _changes(record["code"], now["code"]):
            yield f"{made} by other code of {name}"
        for name, output in outputs.items():
            if name not in self.chosen and record["outputs"].get(name, [None])[0] != output.sha256:
                yield f"{name} is not what was made"

    def _recorded(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Return the recorded fingerprints of what was made, though it may have been deleted."""
        records = {
            name: self.finished[self.producers[name].name]
            for name in names
            if name in self.producers and self.producers[name].name in self.finished
        }
        return {
            name: record["outputs"][name]
            for name, record in records.items()
            if name in record["outputs"]
        }


def _made_by_another_version(folder: Path) -> str:
    return (
        f"run '{folder.name}' was made by another version of this project, whose records cannot be "
        f"compared; its files stay where they are, --params run=NAME begins another run"
    )


def _written_since(record: Record, name: str, now: Fingerprint) -> bool:
    before = record["before"].get(name)
    return before is None or before[1] != now.stamp


def _is_parameter(name: str) -> bool:
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
    found = {}
    for argument, name in _arguments(node).items():
        if name == "parameters":
            found |= plain(_load(name, catalog))
        elif _is_parameter(name):
            value = plain(_load(name, catalog))
            if argument in fields_of:
                value = {field: value[field] for field in fields_of[argument] if field in value}
            found[name.removeprefix("params:")] = value
    return found


def _load(name: str, catalog: CatalogProtocol) -> Any:
    """Load a parameter as its model, also where no pipeline of this run takes it.

    Otherwise the defaults that Kedro's models fill in would be missing from a comparison.
    """
    value = catalog.load(name)
    if name != "parameters":
        return as_model(name.removeprefix("params:"), value)
    record = recorded_parameters(value)
    methods = {key: as_model(f"methods.{key}", method) for key, method in record["methods"].items()}
    groups = {group: as_model(group, one) for group, one in record.items() if group not in RUNTIME}
    return groups | {"methods": methods}


def _named_code(node: Node, catalog: CatalogProtocol) -> dict[str, str]:
    """Hash the code that the node's parameters name: a method's losses, metrics of one's own."""
    values = [_load(name, catalog) for name in node.inputs if _is_parameter(name)]
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


def _changes(was: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Walk through two values, and yield path, former and present value of what differs."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted({*was, *now}):
            where = f"{path}.{name}" if path else name
            yield from _changes(was.get(name), now.get(name), where)
    elif was != now:
        yield path, was, now


def _shown(value: Any) -> str:
    return shorten(json.dumps(value), 60, placeholder=" ...")
