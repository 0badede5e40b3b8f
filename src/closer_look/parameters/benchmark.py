"""Parameters of ``kedro run --pipelines benchmark``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from closer_look.parameters.base import Parameters
from closer_look.parameters.experiment import Seeds, SomeNames


class BenchmarkParameters(Parameters):
    """What is compared, and by what it is ranked; the rest is as in the experiment."""

    methods: SomeNames | None = None
    """Methods by their names in ``methods``; "all" for all, those of the experiment if absent."""
    seeds: Annotated[Seeds, Field(min_length=1)]
    """Each trains every method once; three or more tell how far trainings differ."""
    rank_by: Literal["harmonic_mean", "forget_efficacy"] = "harmonic_mean"
    """The score: the harmonic mean of Model Utility and Forget Efficacy, or Forget Efficacy alone,
    where methods that do not keep ``tuning.min_utility`` come after all that do."""
