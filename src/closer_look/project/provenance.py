"""With what every artefact of a run was made, and whether it would be made so again.

Kedro's own checks (``--only-missing-outputs``, ``--from-nodes``) see that results exist. Here is
seen that they are those that the run would make: of the same rows, parameters, models and code.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from kedro.io.core import AbstractVersionedDataset
from kedro.pipeline import Pipeline

from closer_look.errors import InputError
from closer_look.models.model_folder import local_folder
from closer_look.parameters.groups import MODEL_NAMES, RUNTIME
from closer_look.reporting.run_record import plain, recorded_parameters
from closer_look.system.code import code_fingerprint, code_hash
from closer_look.system.fingerprints import Fingerprint, fingerprint, remember

if TYPE_CHECKING:
    from kedro.io import AbstractDataset, CatalogProtocol
    from kedro.pipeline.node import Node

PROVENANCE = "provenance"  # in the catalog

Line = dict[str, Any]
"""Of the provenance: ``node``, ``parameters`` (name -> value), ``code`` (module -> hash),
``inputs`` (name -> fingerprint) and, once they are saved, ``outputs``; until then ``before``, which
is what was there under the outputs' names."""


def origin(node: Node, catalog: CatalogProtocol) -> Line:
    """With what the node works now."""
    parameters = _parameters(node, catalog)
    return {
        "node": node.name,
        "parameters": parameters,
        "code": code_fingerprint(node.func) | _named_code(node, catalog),
        "inputs": fingerprints(node.inputs, catalog) | models(parameters),
    }


def fingerprints(names: Iterable[str], catalog: CatalogProtocol) -> dict[str, Fingerprint]:
    """Of those datasets that hold something on which results depend."""
    files = {name: _files(catalog[name]) for name in names if not _is_parameter(name)}
    return {name: fingerprint(paths) for name, paths in files.items() if paths}


def models(parameters: Mapping[str, Any], path: str = "") -> dict[str, Fingerprint]:
    """Of the models that parameters name, such as a judge: of what this machine has of them."""
    found = {}
    for name, value in parameters.items():
        if isinstance(value, dict):
            found |= models(value, f"{path}{name}.")
        elif name in MODEL_NAMES and isinstance(value, str):
            folder = local_folder(value)
            if folder is not None:
                found[f"{path}{name}"] = fingerprint([folder])
    return found


class History:
    """What the nodes of a run have made so far, and with what."""

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
        """
        self.catalog, self.chosen = catalog, chosen
        by_name = {node.name: node for pipeline in pipelines for node in pipeline.nodes}
        self.nodes = Pipeline(list(by_name.values())).nodes  # in an order in which they may run
        self.producers = {output: node for node in self.nodes for output in node.outputs}
        self.made: dict[str, Line] = {}
        begun: dict[str, Line] = {}
        for line in catalog.load(PROVENANCE):
            for known in [*line["inputs"].values(), *line.get("outputs", {}).values()]:
                remember(Fingerprint(*known))
            begun.pop(line["node"], None)
            (self.made if "outputs" in line else begun)[line["node"]] = line
        for name, line in begun.items():  # of nodes that were killed as they saved
            outputs = fingerprints(by_name[name].outputs, catalog) if name in by_name else {}
            if outputs and all(_written_since(line, *output) for output in outputs.items()):
                self.made[name] = line | {"outputs": outputs}

    def check(self, to_run: Collection[Node], kept: Collection[Node]) -> None:
        """See that nothing is used, or left as it is, that would now be made otherwise.

        Args:
            to_run: the nodes of this run.
            kept: nodes whose outputs are there, and are to stay as results of this run.

        Raises:
            InputError: the first difference, and the nodes from which it is mended.
        """
        used = self._with_ancestors([*to_run, *kept]).difference(to_run)
        differences = {
            node: difference
            for node in self.nodes
            if node in used and (difference := next(self._differences(node, to_run), None))
        }
        if not differences:
            return
        again = {*differences, *(to_run if kept else ())}
        first = [
            node.name
            for node in self.nodes
            if node in again and not self._with_ancestors([node]).difference([node]) & again
        ]
        telling = min(differences, key=lambda node: "parameters" in node.inputs)  # all of them
        raise InputError(
            f"{differences[telling]}; --from-nodes={','.join(first)} makes anew what "
            f"depends on it, --params run=NAME begins another run"
        )

    def consumers(self, nodes: Collection[Node]) -> dict[str, dict[str, str]]:
        """Say from what nodes have worked: dataset -> node -> SHA-256."""
        found: dict[str, dict[str, str]] = {}
        for node in nodes:
            for name, (sha256, _) in self.made.get(node.name, {"inputs": {}})["inputs"].items():
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
        outputs = fingerprints(node.outputs, self.catalog)
        line = self.made.get(node.name)
        if line is None:
            if outputs:
                yield f"there is no record of how {node.outputs[0]} was made"
            return
        now = json.loads(json.dumps(origin(node, self.catalog)))
        what = f"{node.outputs[0]} was made"
        for path, former, present in _changes(line["parameters"], now["parameters"]):
            yield f"{what} with {path} {_shown(former)}, which is {_shown(present)} now"
        remade = dict.fromkeys(i for i in node.inputs if self.producers.get(i) in to_run)
        used, found = line["inputs"], self._recorded(node.inputs) | now["inputs"]
        for name in {**used, **found, **remade}:
            if name in self.chosen:
                continue
            if name not in used:
                yield f"{what} without {name}"
            elif name not in found:
                if name not in node.inputs and name.rpartition(".")[2] not in MODEL_NAMES:
                    yield f"{what} with {name}, which is no longer part of it"
            elif name not in remade and found[name][0] != used[name][0]:
                yield f"{what} from another {name} than there is now"
        for module, *_ in _changes(line["code"], now["code"]):
            yield f"{what} by other code of {module}"
        for name, output in outputs.items():
            if name not in self.chosen and line["outputs"].get(name, [None])[0] != output.sha256:
                yield f"{name} is not what was made"

    def _recorded(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Fingerprints of what was made, though it may have been deleted."""
        lines = {
            name: self.made[self.producers[name].name]
            for name in names
            if name in self.producers and self.producers[name].name in self.made
        }
        return {
            name: line["outputs"][name] for name, line in lines.items() if name in line["outputs"]
        }


def _written_since(line: Line, name: str, now: Fingerprint) -> bool:
    before = line["before"].get(name)
    return before is None or before[1] != now.stamp


def _is_parameter(name: str) -> bool:
    return name == "parameters" or name.startswith("params:")


def _files(dataset: AbstractDataset) -> list[str]:
    """What holds the dataset's content, if there is any; datasets of the project may say it."""
    if hasattr(dataset, "sources"):
        return dataset.sources()
    if not isinstance(dataset, AbstractVersionedDataset) or not dataset.exists():
        return []
    protocol = getattr(dataset, "_protocol", "file")
    path = str(dataset._get_load_path())
    return [path if protocol == "file" else f"{protocol}://{path}"]


def _parameters(node: Node, catalog: CatalogProtocol) -> dict[str, Any]:
    """What the node's outputs depend on: of a group, what it ``reads`` of it."""
    read = getattr(node.func, "reads", {})
    found = {}
    for argument, name in _arguments(node).items():
        if name == "parameters":
            record = recorded_parameters(catalog.load(name))
            found |= {group: value for group, value in record.items() if group not in RUNTIME}
        elif _is_parameter(name):
            value = plain(catalog.load(name))
            if argument in read:
                value = {field: value[field] for field in read[argument] if field in value}
            found[name.removeprefix("params:")] = value
    return found


def _named_code(node: Node, catalog: CatalogProtocol) -> dict[str, str]:
    """Hash the code that the node's parameters name: a method's losses, metrics of one's own."""
    values = [catalog.load(name) for name in node.inputs if _is_parameter(name)]
    return {
        name: code_hash(code)
        for value in values
        for name, code in getattr(value, "named_code", {}).items()
    }


def _arguments(node: Node) -> dict[str, str]:
    """Argument of the function -> dataset."""
    if isinstance(node._inputs, dict):
        return node._inputs
    return dict(zip(inspect.signature(node.func).parameters, node.inputs, strict=False))


def _changes(was: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, former and present value of what differs."""
    if isinstance(was, dict) and isinstance(now, dict):
        for name in sorted({*was, *now}):
            where = f"{path}.{name}" if path else name
            yield from _changes(was.get(name), now.get(name), where)
    elif was != now:
        yield path, was, now


def _shown(value: Any) -> str:
    return shorten(json.dumps(value), 60, placeholder=" ...")
