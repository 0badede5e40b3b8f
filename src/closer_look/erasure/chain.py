"""What the ledger says: which model is current, and which requests are decided in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from closer_look.erasure.ledger import Line
from closer_look.errors import InputError

DECIDING = ("served", "not_known", "failed")


class Chain(NamedTuple):
    """The state that the lines of a ledger lead to."""

    first: str | None = None
    """SHA-256 of the model before all requests; None while no line names it."""
    current: str | None = None
    """SHA-256 of the model that serves; None while no line names one: it is the first."""
    decided: Mapping[str, Line] = MappingProxyType({})
    """Request -> the line that decided about it, as far as the current model bears it out."""
    until: Mapping[str, int] = MappingProxyType({})
    """Model -> number of lines when it was current for the last time."""


def read_chain(lines: Sequence[Line]) -> Chain:
    """Follow the lines of a ledger.

    A request that an earlier model came before is no longer decided once that model is current
    again, and neither is one whose rows came back.
    """
    first = current = None
    decided: dict[str, Line] = {}
    until: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        if line.kind in DECIDING:
            decided[line.request_id] = line
            first = first or line.model_before
        if line.kind == "requeued":
            decided.pop(line.request_id, None)
        if line.kind == "rolled_back":
            before = lines[: until.get(line.model_after, 0)]
            decided = dict(read_chain(before).decided)
        current = line.model_after or current
        if current or first:
            until[current or first] = number
    return Chain(first, current, decided, until)


def purged_requests(lines: Sequence[Line]) -> set[str]:
    """Return the requests whose rows were deleted after the last decision about them."""
    purged: set[str] = set()
    for line in lines:
        if line.kind in DECIDING:
            purged.discard(line.request_id)
        if line.kind == "purged":
            purged.add(line.request_id)
    return purged


def decided_under(lines: Sequence[Line], model: str) -> Mapping[str, Line]:
    """Return what was decided when a model was current for the last time."""
    return read_chain(lines[: read_chain(lines).until.get(model, 0)]).decided


def find_model(lines: Sequence[Line], beginning: str) -> str:
    """Find a model of the chain by the beginning of its SHA-256.

    Raises:
        InputError: there is none, or there are several.
    """
    known = {line.model_before for line in lines} | {line.model_after for line in lines}
    found = sorted(one for one in known if one and one.startswith(beginning.lower()))
    if len(found) != 1:
        raise InputError(
            f"parameter erasure.rollback_to: the ledger names {len(found) or 'no'} "
            f"model{'s' * (len(found) != 1)} of which the SHA-256 begins with '{beginning}'; its "
            f"lines hold them as model_before and model_after"
        )
    return found[0]
