"""Parameters of requests to forget: how they are served, and of their certificates."""

from __future__ import annotations

import os
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from closer_look.parameters.base import Parameters

File = Annotated[str, AfterValidator(os.path.expanduser)]
Share = Annotated[float, Field(ge=0, le=1)]


class AttemptParameters(Parameters):
    """One setting of the unlearning; what is not given is the method's and ``unlearning``'s."""

    method: str | None = None
    """Replaces ``erasure.method``."""
    learning_rate_factor: PositiveFloat = 1.0
    epochs: PositiveInt | None = None


class ErasureParameters(Parameters):
    """How requests are served, what a model must pass to become current, and who signs for it."""

    batch: Literal["each", "all"] = "each"
    """Unlearn each pending request by itself, the oldest first, or all of them at once; those that
    have failed go with others for which the same attempts are left."""
    method: str
    """A name in ``methods``."""
    attempts: Annotated[tuple[AttemptParameters, ...], Field(min_length=1)] = (AttemptParameters(),)
    """Settings that are tried one after another, until one passes the gate."""
    min_forget_efficacy: Share
    """The gate: smallest forget efficacy of a request's rows."""
    max_utility_loss: Share
    """The gate: what the model utility may lose with one request."""
    max_residual_knowledge: Share | None = None
    """The gate: the most that ``attacks`` may get back of what was known; null asks for none."""
    attacks: tuple[str, ...] = ()
    """Attacks for it, by their names in the parameters ``attacks``."""
    recheck: bool = True
    """Queue an earlier request again when its rows come back above the gate."""
    recheck_rows: PositiveInt = 60
    """Largest number of rows of earlier requests that each new one asks again."""
    purge: bool = False
    """Delete a request's file, and what holds its texts, once it is served."""
    on_conflict: Literal["drop_retain", "refuse"] = "drop_retain"
    """What to do when rows to retain ask the same or are of the same subject: leave them out, or
    set the request aside."""
    rollback_to: str | None = None
    """SHA-256 of a model of the chain, or its beginning, to make current; nothing is served."""
    key: File | None = None
    """Path of an Ed25519 key in PEM: the private one signs certificates, the public one verifies
    them. Without it they are not signed."""

    @field_validator("attacks", mode="before")
    @classmethod
    def _words(cls, attacks: Any) -> Any:
        return attacks.split() if isinstance(attacks, str) else attacks

    @model_validator(mode="after")
    def _attacks_are_named(self) -> Self:
        if (self.max_residual_knowledge is None) != (not self.attacks):
            raise ValueError("max_residual_knowledge and attacks: give both or neither")
        return self

    @field_validator("rollback_to")
    @classmethod
    def _names_one(cls, rollback_to: str | None) -> str | None:
        if rollback_to is not None and len(rollback_to) < 8:
            raise ValueError("give at least 8 digits of the model's SHA-256")
        return rollback_to
