"""The gate: which numbers let a new model become current, and how that is said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from closer_look.parameters.erasure import ErasureParameters

Numbers = Mapping[str, Any]
"""Name -> ``value``, ``low``, ``high`` (95 %) and ``n_rows``; None where nothing was measured."""

DIGITS = 3


def rejections(before: Numbers, after: Numbers, gate: ErasureParameters) -> list[str]:
    """Say why a model must not become current.

    Args:
        before: numbers of the model that is current.
        after: those of the model that would be.
        gate: the bounds.

    Returns:
        A sentence for each bound that is broken; none lets the model pass.
    """
    found = []
    efficacy = _value(after, "forget_efficacy")
    if efficacy is None:
        found.append("forget efficacy could not be measured")
    elif efficacy < gate.min_forget_efficacy:
        found.append(
            f"forget efficacy {_shown(efficacy)} is below erasure.min_forget_efficacy "
            f"{gate.min_forget_efficacy:g}"
        )
    utilities = _value(before, "model_utility"), _value(after, "model_utility")
    if None in utilities:
        found.append("model utility could not be measured")
    elif utilities[1] < utilities[0] - gate.max_utility_loss:
        fall = " to ".join(map(_shown, utilities))
        found.append(
            f"model utility fell by {_shown(utilities[0] - utilities[1])}, from {fall}: more than "
            f"erasure.max_utility_loss {gate.max_utility_loss:g}"
        )
    if gate.max_residual_knowledge is not None:
        residual = _value(after, "residual_knowledge")
        if residual is None:
            found.append("residual knowledge could not be measured")
        elif residual > gate.max_residual_knowledge:
            found.append(
                f"attacks got back {_shown(residual)} of what was known: more than "
                f"erasure.max_residual_knowledge {gate.max_residual_knowledge:g}"
            )
    return found


def bounds(gate: ErasureParameters) -> dict[str, float]:
    """Return the bounds that are set, for the ledger."""
    names = ("min_forget_efficacy", "max_utility_loss", "max_residual_knowledge")
    return gate.model_dump(include={*names}, exclude_none=True)


def _value(numbers: Numbers, name: str) -> float | None:
    return (numbers.get(name) or {}).get("value")


def _shown(value: float) -> str:
    return f"{value:.{DIGITS}f}"
