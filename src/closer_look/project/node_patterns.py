"""Patterns of node names: one word for the same node of many cells."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import filter as matching


def patterns(names: Iterable[str], others: Iterable[str]) -> list[str]:
    """Find patterns that match all names, and none of others.

    Args:
        names: names of nodes, such as "continual.me_gd.task_03.unlearn".
        others: names that no pattern may match.

    Returns:
        Of each name, the first that will do: all cells ("continual.*.unlearn"), all methods
        ("continual.*.task_03.unlearn"), all seeds ("continual.*.seed_1002.*.unlearn"), all tasks
        ("continual.me_gd.*.unlearn"), or itself.
    """
    forbidden = {pattern for name in others for pattern in _patterns_of(name)}
    found = (
        next((one for one in _patterns_of(name) if one not in forbidden), name) for name in names
    )
    return list(dict.fromkeys(found))


def _patterns_of(name: str) -> list[str]:
    namespace, _, node = name.rpartition(".")
    scenario, *cell = namespace.split(".")
    found = [f"{scenario}.*.{node}"] if cell else []
    if len(cell) > 1:
        found.append(f"{scenario}.*.{cell[-1]}.{node}")
        found += [f"{scenario}.*.{part}.*.{node}" for part in cell[1:-1]]
        found.append(f"{scenario}.{cell[0]}.*.{node}")
    return found


def expand(wanted: Iterable[str], names: Collection[str]) -> list[str]:
    """Replace patterns by the names that they match; one that matches none stays as it is."""
    return [
        name for one in wanted for name in (matching(names, one) if "*" in one else ()) or [one]
    ]
