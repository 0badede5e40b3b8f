"""What the terminal shows of an estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType

MEMORY = ("weights", "gradients", "moments", "activations", "reference", "total")
STYLES = {"fits": "green", "tight": "yellow", "too large": "bold red"}
PLAIN: dict[str, Any] = {"title_justify": "left", "box": None, "pad_edge": False}
DISK = {
    "models": "models, of all tasks and methods",
    "reference": "reference scores and their cache",
    "checkpoint": "a checkpoint, while a training goes on",
    "tables": "scores, answers and other tables, about",
}
SIZES = (
    *((1e18, "quintillion"), (1e15, "quadrillion"), (1e12, "trillion")),
    *((1e9, "billion"), (1e6, "million")),
)


def as_tables(estimate: Mapping[str, Any]) -> list[RenderableType]:
    """Write an estimate as tables for a terminal of 80 columns.

    Args:
        estimate: see ``estimate.estimate``.
    """
    from rich.table import Table
    from rich.text import Text

    model, hardware = estimate["model"], estimate["hardware"]
    many = hardware["n_devices"]
    devices = f"{many} device{'s' * (many > 1)} ({hardware['name']})"
    title = (
        f"{model['name'] or model['kind']}: {_short(model['weights'])} weights, "
        f"{model['precision']}\n{devices} of {hardware['memory'] / 1e9:,.1f} GB"
    )
    disk_bytes, memory_bytes = estimate["disk"], estimate["memory"]
    largest = max((one["total"] for one in memory_bytes.values()), default=0)
    unit, size = ("GB", 1e9) if max(largest, disk_bytes["models"]) >= 1e9 else ("MB", 1e6)

    def amount(n_bytes: int) -> str:
        return f"{n_bytes / size:,.1f}" if n_bytes else "-"

    memory = Table(title=f"Memory of a device, {unit}", **PLAIN, padding=(0, 1, 0, 0))
    memory.add_column("")
    for name in MEMORY:
        memory.add_column(name, justify="right", no_wrap=True)
    memory.add_column("", no_wrap=True)
    for label, needed in memory_bytes.items():
        cells = [amount(needed[name]) for name in MEMORY]
        memory.add_row(label, *cells, Text(needed["verdict"], STYLES[needed["verdict"]]))
    disk = Table(title=f"Disk, {unit}", **PLAIN, padding=(0, 2, 0, 0), show_header=False)
    disk.add_column()
    disk.add_column(justify="right")
    for name, said in DISK.items():
        disk.add_row(said, amount(disk_bytes[name]))
    work = Table(title="Work", **PLAIN, padding=(0, 2, 0, 0))
    for head in ("", "tokens", "operations", "hours"):
        work.add_column(head, justify="right" if head else "left")
    for kind, done in estimate["work"].items():
        hours = "" if done["hours"] is None else f"{done['hours']:,.2g}"
        work.add_row(kind, _short(done["tokens"]), _short(done["flops"]), hours)
    sentences = [*estimate["advice"], *estimate["notes"]]
    return [Text(title, "bold"), "", memory, "", disk, "", work, "", *map(Text, sentences)]


def _short(number: float) -> str:
    """Write a large number in three digits, as in "6.74 billion"."""
    for size, name in SIZES:
        if number >= size:
            return f"{number / size:.3g} {name}"
    return f"{number:,.0f}"
