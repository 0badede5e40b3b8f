"""Parameters of requests to forget: how they are served, and of their certificates."""

from __future__ import annotations

import os
from typing import Annotated

from pydantic import AfterValidator

from closer_look.parameters.base import Parameters

File = Annotated[str, AfterValidator(os.path.expanduser)]


class ErasureParameters(Parameters):
    """How requests are served, and who signs for it."""

    key: File | None = None
    """Path of an Ed25519 key in PEM: the private one signs certificates, the public one verifies
    them. Without it they are not signed."""
