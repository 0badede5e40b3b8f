"""A run that surely does not fit is refused at its start, before anything is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from closer_look.data.cells import Cell
from closer_look.datasets.causal_lm_dataset import CausalLMDataset
from closer_look.errors import InputError
from closer_look.parameters.groups import as_model
from closer_look.parameters.methods import settings_of
from closer_look.system.storage import is_url

if TYPE_CHECKING:
    from kedro.io import CatalogProtocol
    from kedro.pipeline.node import Node
    from transformers import PreTrainedModel

FINETUNES = ("finetune", "finetune_retain_only")
SAVES_WHOLE = (*FINETUNES, "initialise", "instruct", "unlearn")
"""Nodes that write a model, not only its name."""
OTHER_MACHINES = "RayRunner"


def check_fit(to_run: Collection[Node], catalog: CatalogProtocol, runner: str) -> None:
    """Refuse a run if not even its leanest training fits, or its models do not fit on the disk.

    Args:
        to_run: nodes that will run.
        catalog: holds the parameters, and says where models go.
        runner: its name; with one that uses other machines, memory is known only by
            ``plan.device_memory_gb``.

    Raises:
        InputError: it surely does not fit.
    """
    nodes = {node: node.name.rpartition(".")[2] for node in sorted(to_run)}
    trains = [node for node, name in nodes.items() if name in (*FINETUNES, "unlearn")]
    if not trains:
        return
    fault = None
    with suppress(InputError, ValueError):  # what is wrong with the input is said by who reads it
        fault = _fault(trains, nodes, catalog, runner)
    if fault:
        raise InputError(fault)


def _fault(
    trains: list[Node], nodes: dict[Node, str], catalog: CatalogProtocol, runner: str
) -> str | None:
    from transformers import AutoModelForCausalLM

    from closer_look.models.blueprint import blueprint
    from closer_look.models.declared_size import check_declared_size

    base_model = _parameters("base_model", catalog)
    if base_model.pretrained:  # a configuration may lie
        check_declared_size(base_model.pretrained, AutoModelForCausalLM)
    # A small Llama's tokenizer may learn fewer tokens than asked for.
    model = blueprint(base_model, n_tokens=1)
    fault = _fault_of_memory(trains, nodes, model, catalog, runner)
    if fault:
        return fault
    whole = {*SAVES_WHOLE}
    if base_model.pretrained:
        whole.remove("initialise")  # it writes the name
    if _parameters("unlearning", catalog).lora:
        whole.remove("unlearn")  # it writes adapters
    return _fault_of_disk([one for one, name in nodes.items() if name in whole], model, catalog)


def _fault_of_memory(
    trains: list[Node],
    nodes: dict[Node, str],
    model: PreTrainedModel,
    catalog: CatalogProtocol,
    runner: str,
) -> str | None:
    from closer_look.training.fit import least_bytes, too_large, whole_too_large

    plan = _parameters("plan", catalog)
    if plan.device_memory_gb:
        memory = int(plan.device_memory_gb * 1e9)
    elif OTHER_MACHINES in runner:
        return None
    else:
        memory = _memory_here()
    if any(nodes[node] in FINETUNES for node in trains):
        least = {"Fine-tuning": least_bytes(model, _parameters("finetuning", catalog))}
        if fault := too_large(least, memory, "finetuning"):
            return fault
    least = {}
    for node in trains:
        if nodes[node] == "unlearn":
            method = _parameters(f"methods.{Cell.around(node.name).method}", catalog)
            settings = settings_of(method, _parameters("unlearning", catalog))
            least[method.label] = least_bytes(model, settings, method)
    return too_large(least, memory, "unlearning") or whole_too_large(model, memory)


def _memory_here() -> int:
    import psutil

    from closer_look.system.hardware import devices_here

    here = devices_here()
    return here.memory + (psutil.swap_memory().total if here.is_cpu else 0)


def _fault_of_disk(
    writes: list[Node], model: PreTrainedModel, catalog: CatalogProtocol
) -> str | None:
    """Hold the models that are new against the free space of the disk on which they go."""
    from closer_look.models.language_model import saved_bytes

    written = [catalog.get(name) for node in writes for name in node.outputs]
    models = [one for one in written if isinstance(one, CausalLMDataset)]
    new = [one for one in models if not is_url(one.folder) and not one.exists()]
    if not new:
        return None
    parent = next(path for path in new[0].folder.absolute().parents if path.exists())
    needed, free = len(new) * saved_bytes(model), shutil.disk_usage(parent).free
    if needed <= free:
        return None
    return (
        f"the models of this run surely do not fit: {len(new)} of them take "
        f"{needed / 1e9:,.1f} GB, {parent} has {free / 1e9:,.1f} GB left; free some space, let the "
        f"run write elsewhere (--params data=FOLDER), or train adapters (unlearning.lora.rank=8)"
    )


def _parameters(name: str, catalog: CatalogProtocol) -> Any:
    return as_model(name, catalog.load(f"params:{name}"))
