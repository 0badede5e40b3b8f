"""What the reference stage hands to training."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor


class ReferenceScores(NamedTuple):
    """What losses need of the frozen reference model, and no more.

    Attributes:
        nll: ``row_id``, ``text``, ``nll`` (nats, summed) of forget rows.
        hidden_states: retain row -> (positions, hidden size), the inputs of the output head.
        output_head: (V, hidden size); the states times its transpose are the reference's logits.
    """

    nll: pd.DataFrame
    hidden_states: dict[str, Tensor]
    output_head: Tensor | None
