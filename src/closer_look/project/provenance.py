"""Checks that what a run takes from earlier runs is what it would make itself.

Kedro's own checks (``--only-missing-outputs``, ``--from-nodes``) see that results exist. The
history checks that they are those that the run would make: of the same rows, parameters, catalog
entries, models and code.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from graphlib import TopologicalSorter
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from closer_look.data.cells import Cell
from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.datasets.places import place_of
from closer_look.errors import InputError, quote
from closer_look.parameters.groups import MODEL_NAMES
from closer_look.project.dependencies import (
    FORMAT,
    Record,
    dataset_fingerprints,
    dependencies,
    library_versions,
    named_models,
)
from closer_look.project.node_patterns import patterns
from closer_look.reporting.run_record import plain
from closer_look.system.fingerprints import Fingerprint, remember
from closer_look.system.storage import is_url, name_of, names_in

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline import Pipeline
    from kedro.pipeline.node import Node

PROVENANCE = "provenance"  # in the catalog
MOST_NAMED = 10  # nodes that a message names one by one


def check_models_are_kept(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse to write a model where one lies that a parameter names.

    Raises:
        InputError: naming the parameter and the dataset that would replace its model.
    """
    names = {name for name in pipeline.inputs() if name.startswith("params:")}
    given = {name.removeprefix("params:"): plain(catalog.load(name)) for name in sorted(names)}
    written = {
        _resolved(str(dataset.folder)): name
        for name in pipeline.outputs() | pipeline.datasets() - pipeline.inputs()
        if isinstance(dataset := catalog.get(name), CausalLMDataset)
    }
    for parameter, name in named_models(given):
        folder = _resolved(name)
        if folder in written:
            raise InputError(
                f"parameter {parameter}: {quote(folder)} is where this run writes "
                f"'{written[folder]}', and would be replaced; copy it to another folder, or begin "
                f"another run: --params run=NAME"
            )


def check_clock(pipeline: Pipeline, catalog: CatalogProtocol) -> None:
    """Refuse to save versions that are dated before those that are there: the older would be read.

    Raises:
        InputError: naming a dataset and the date of its latest version.
    """
    for name in sorted(pipeline.all_outputs()):
        dataset = catalog.get(name)
        version = getattr(dataset, "_version", None)
        if version is None or version.save is None:
            continue
        latest = max(names_in(place_of(dataset)), default="")
        if latest > version.save:
            raise InputError(
                f"{name} has a version of {latest}, and this run would be dated {version.save}: "
                f"set the clock of this machine, or begin another run: --params run=NAME"
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
        self.producers = {output: node for node in by_name.values() for output in node.outputs}
        self.nodes = self._in_order(by_name.values())
        self.finished: dict[str, Record] = {}  # by node
        self.versions: dict[tuple[str, str], Record] = {}  # by output and SHA-256
        begun: dict[str, Record] = {}  # by node
        for record in catalog.load(PROVENANCE):
            if record.get("format") != FORMAT:
                raise InputError(_made_by_another_version(catalog[PROVENANCE].folder))
            for known in [*record["inputs"].values(), *record.get("outputs", {}).values()]:
                remember(Fingerprint(*known))
            begun.pop(record["node"], None)
            for name, (sha256, _) in record.get("outputs", {}).items():
                self.versions[name, sha256] = record
            (self.finished if "outputs" in record else begun)[record["node"]] = record
        for name, record in begun.items():
            # The node was killed as it saved. If all its outputs are there, and none is what was
            # there before, then it had finished, and only its last record is missing.
            node = by_name.get(name)
            outputs = dataset_fingerprints(node.outputs, catalog) if node else {}
            if outputs and all(_written_since(record, *output) for output in outputs.items()):
                self.finished[name] = record | {"outputs": outputs}

    def check_chosen(self) -> None:
        """Refuse a chosen version of a table that holds other cells than this run has.

        Raises:
            InputError: naming the table, its cells and those of the run.
        """
        for name, (sha256, _) in dataset_fingerprints(self.chosen, self.catalog).items():
            record, node = self.versions.get((name, sha256)), self.producers.get(name)
            if record is None or node is None:
                continue
            held, asked = _cells(record["inputs"]), _cells(node.inputs)
            if held != asked:
                raise InputError(
                    f"--load-versions: {name} of that version holds {', '.join(held)}, this run "
                    f"has {', '.join(asked)}; ask for the same methods, models and tasks"
                )

    def check(self, to_run: Collection[Node], kept: Collection[Node]) -> str:
        """Refuse to reuse an artefact that this run would produce differently.

        Args:
            to_run: the nodes of this run.
            kept: nodes whose outputs are there, and are to stay as results of this run.

        Returns:
            A sentence about results that other versions of libraries have made; "" if there are
            none.

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
            return self._other_versions(used)
        again = {*differences, *(to_run if kept else ())}
        # A node that takes all parameters differs whatever has changed: it is reported last.
        reported = min(differences, key=lambda node: "parameters" in node.inputs)
        raise InputError(
            f"{differences[reported]}; --from-nodes={self._beginnings(again)} makes anew what "
            f"depends on it, --params run=NAME begins another run"
        )

    def _beginnings(self, again: Collection[Node]) -> str:
        """Name the nodes to run again that no other of them comes before.

        Many of them are named by patterns, which match nothing that would not run anyway.
        """
        first: list[Node] = []
        to_run: set[Node] = set()
        for node in self.nodes:
            if any(parent in to_run for parent in self._parents(node)):
                to_run.add(node)
            elif node in again:
                first.append(node)
                to_run.add(node)
        if len(first) <= MOST_NAMED:
            return ",".join(node.name for node in first)
        others = [node.name for node in self.nodes if node not in to_run]
        # In quotes, for a shell would look for files.
        return f'"{",".join(patterns([node.name for node in first], others))}"'

    def _in_order(self, nodes: Collection[Node]) -> list[Node]:
        """Order nodes as they may run; a Pipeline would compare all tasks of a chain."""
        sorter = TopologicalSorter({node: self._parents(node) for node in nodes})
        sorter.prepare()
        ordered: list[Node] = []
        while ready := sorted(sorter.get_ready()):
            ordered += ready
            sorter.done(*ready)
        return ordered

    def _parents(self, node: Node) -> list[Node]:
        return [self.producers[name] for name in node.inputs if name in self.producers]

    def _other_versions(self, used: Iterable[Node]) -> str:
        records = [self.finished[node.name] for node in used if node.name in self.finished]
        now = library_versions()
        former = {
            (name, version)
            for record in records
            for name, version in record["libraries"].items()
            if name in now and now[name] != version
        }
        changed = [f"{name} {version} (now {now[name]})" for name, version in sorted(former)]
        return f"results that are there were made with {', '.join(changed)}" if changed else ""

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
        for kind, of in (("parameters", ""), ("catalog", "the catalog's ")):
            for path, former, present in _changes(record[kind], now[kind]):
                yield f"{made} with {of}{path} {_shown(former)}, which is {_shown(present)} now"
        for change in self._other_inputs(node, record["inputs"], now["inputs"], to_run):
            yield f"{made} {change}"
        for name, *_ in _changes(record["code"], now["code"]):
            yield f"{made} by other code of {name}"
        for name, output in outputs.items():
            if name not in self.chosen and record["outputs"].get(name, [None])[0] != output.sha256:
                yield f"{name} is not what was made"

    def _other_inputs(
        self,
        node: Node,
        former: Mapping[str, list[str]],
        now: Mapping[str, list[str]],
        to_run: Collection[Node],
    ) -> Iterator[str]:
        # Inputs that this run makes anew are compared when they are there (see ProvenanceHooks).
        remade = {name for name in node.inputs if self.producers.get(name) in to_run}
        present = self._recorded(node.inputs) | now
        for name in dict.fromkeys([*former, *present, *remade]):
            if name in self.chosen:
                continue
            if name not in former:
                yield f"without {name}"
            elif name not in present:
                # A model that a parameter names may have left this machine since.
                if name not in node.inputs and name.rpartition(".")[2] not in MODEL_NAMES:
                    yield f"with {name}, which is no longer part of it"
            elif name not in remade and present[name][0] != former[name][0]:
                yield f"from another {name} than there is now"

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


def _resolved(folder: str) -> str:
    return folder if is_url(folder) else str(Path(folder).resolve())


def _cells(names: Iterable[str]) -> list[str]:
    """List the models whose results these datasets are, without their scenario."""
    cells = filter(None, map(Cell.around, names))
    return sorted({cell.name for cell in cells})


def _made_by_another_version(folder: Path | str) -> str:
    return (
        f"run '{name_of(folder)}' was made by another version of this project, whose records "
        f"cannot be compared; its files stay where they are, --params run=NAME begins another run"
    )


def _written_since(record: Record, name: str, now: Fingerprint) -> bool:
    before = record["before"].get(name)
    return before is None or before[1] != now.stamp


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
