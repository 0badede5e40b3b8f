"""The return to an earlier model of the chain."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING

from closer_look.erasure.chain import decided_under, find_model
from closer_look.erasure.current import Models, load_current
from closer_look.errors import InputError, listed

if TYPE_CHECKING:
    from closer_look.erasure.book import Book

log = logging.getLogger(__name__)


def roll_back(book: Book, models: Models, beginning: str, present: Collection[str]) -> None:
    """Make an earlier model current again; what was decided after it is pending again.

    Args:
        book: the ledger and the results.
        models: the models of the chain.
        beginning: of the model's SHA-256.
        present: requests whose files are there.

    Raises:
        InputError: there is no such model, or it may know the rows of a request that are deleted.
    """
    lines, chain = book.lines(), book.chain()
    model = find_model(lines, beginning)
    if model == (chain.current or chain.first):
        log.info("Model %s is current already; erasure.rollback_to serves no request", model[:16])
        return
    again = sorted(chain.decided.keys() - decided_under(lines, model).keys())
    lost = [request_id for request_id in again if request_id not in present]
    if lost:
        raise InputError(
            f"parameter erasure.rollback_to: model {model[:16]} may know the rows of "
            f"{listed(lost)}, whose files are gone, so that they could not be served again; put "
            f"them back into the folder of requests"
        )
    load_current(models, chain._replace(current=model))  # it must be whole
    reason = f"asked for; pending again: {listed(again) or 'no request'}"
    fields = {"model_before": chain.current or chain.first, "model_after": model}
    book.ledger.append("rolled_back", reason=reason, **fields)
    log.warning("Model %s is current again (%s)", model[:16], reason)
