"""Time and memory of a run, and the machines that it took."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from closer_look.data.cells import RETAIN_ONLY, Cell
from closer_look.reporting.results import STAGES

RETAIN_ONLY_NODES = ("finetune_retain_only", "take_retain_only")
NO_SEED = -1


def costs_table(
    node_costs: pd.DataFrame, summary: pd.DataFrame, labels: Mapping[str, str]
) -> pd.DataFrame:
    """Sum up time and memory, of the nodes that all methods share and of each method.

    Args:
        node_costs: costs of one scenario, from ``datasets.node_costs_dataset``.
        summary: summary of the same scenario; nodes of other cells belong to an earlier run of the
            same name and are left out.
        labels: method -> label.

    Returns:
        ``what`` ("shared", then the methods' labels, then "all"), the seconds of each stage (named
        as in ``STAGES``, if it took any), their sum ``seconds``, and ``peak_memory`` and
        ``peak_gpu_memory`` in bytes.
    """
    nodes = pd.DataFrame(map(_axes, node_costs["node"]), columns=["method", "after_task", "seed"])
    cells = summary.reindex(columns=nodes.columns).fillna({"seed": NO_SEED}).astype({"seed": int})
    chains = cells.assign(after_task=0)  # nodes that all tasks share,
    methods = chains.assign(seed=NO_SEED)  # and all seeds
    known = pd.MultiIndex.from_frame(pd.concat([cells, chains, methods]))
    is_known = nodes["method"].isna() | pd.MultiIndex.from_frame(nodes).isin(known)
    what = nodes["method"].map(labels).fillna("shared")
    costs = node_costs.assign(what=what)[is_known]
    costs = pd.concat([costs, costs.assign(what="all")])
    costs["stage"] = pd.Categorical(costs["stage"].map(STAGES), list(STAGES.values()))
    rows = ["shared", *labels.values(), "all"]
    seconds = costs.pivot_table(
        index="what", columns="stage", values="seconds", aggfunc="sum", observed=True
    )
    seconds.columns = list(seconds.columns)
    peaks = costs.groupby("what")[["peak_memory", "peak_gpu_memory"]].max()
    table = seconds.assign(seconds=seconds.sum(axis=1)).join(peaks)
    return table.reindex([row for row in rows if row in table.index]).reset_index()


def _axes(node: str) -> tuple[str | None, int, int]:
    if node in RETAIN_ONLY_NODES:
        return RETAIN_ONLY, 0, NO_SEED
    cell = Cell.around(node)
    if cell is None:
        return None, 0, NO_SEED
    return cell.method, cell.after_task, NO_SEED if cell.seed is None else cell.seed


def machines(node_costs: pd.DataFrame) -> list[str]:
    """List the machines of the nodes: cores, memory and, if a node used any, GPUs."""
    gpus = node_costs.groupby("machine", sort=False)["gpus"].first()  # skips missing values
    return [m if pd.isna(gpu) else f"{m}, {gpu}" for m, gpu in gpus.items()]
