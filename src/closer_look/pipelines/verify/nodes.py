"""Nodes of the verification."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from closer_look.erasure.ledger import Ledger
from closer_look.errors import InputError
from closer_look.parameters.erasure import ErasureParameters

log = logging.getLogger(__name__)


def verify_certificate(
    ledger: Ledger, models: Path | str, certificate: str | None, erasure: ErasureParameters
) -> dict[str, Any]:
    """Check a certificate; say what holds, a line each.

    Raises:
        InputError: something does not hold, or there is no certificate to check.
    """
    from closer_look.erasure.verification import verify

    if certificate is None:
        raise InputError("parameter certificate: name the file, --params certificate=FILE")
    found = verify(certificate, erasure.key, ledger, models)
    for sentence in found.holds:
        log.info("Holds: %s", sentence)
    for sentence in found.notes:
        log.warning("Note: %s", sentence)
    for sentence in found.faults:
        log.error("Does not hold: %s", sentence)
    if found.faults:
        raise InputError(f"{certificate} does not hold: {'; '.join(found.faults)}")
    return found._asdict()
