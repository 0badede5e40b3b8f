"""Search spaces: the values of a parameter among which tuning looks for the best."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from closer_look.parameters.base import Parameters

Value = bool | int | float | str

INSIDE = 0.382  # a place between the ends that is a whole number for none of the usual ones


def shown(value: Value) -> str:
    """Write a value for a reader."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


class Dimension(Parameters):
    """The values of one parameter that tuning tries: all between two ends, or a few choices."""

    low: int | float | None = None
    high: int | float | None = None
    """Whole numbers alone are tried if both ends are written as such: 2, not 2.0."""
    log: bool = False
    """Draw on a logarithmic scale: as many values between 1 and 10 as between 10 and 100."""
    choices: tuple[Value, ...] | None = None

    @model_validator(mode="after")
    def _is_a_space(self) -> Self:
        given = (self.low is not None, self.high is not None)
        if given != ((False, False) if self.choices else (True, True)) or (
            self.choices and self.log
        ):
            raise ValueError("give either low and high, or choices")
        if self.choices is None and self.low > self.high:
            raise ValueError(f"low {self.low} is above high {self.high}")
        if self.low == self.high and len(set(self.choices or ())) < 2:
            raise ValueError(
                "it is a space of one point, with nothing to search; remove it, and set the "
                "parameter itself"
            )
        if self.log and self.low <= 0:
            raise ValueError(f"log: low must be above 0, not {self.low}")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether it holds whole numbers only."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def points(self) -> tuple[Value, ...]:
        """Values that stand for all: if a method takes them, it takes those between, too."""
        if self.choices:
            return self.choices
        inside = self.low + INSIDE * (self.high - self.low)
        return (self.low, round(inside) if self.is_whole else inside, self.high)

    def __contains__(self, value: Value) -> bool:
        if self.choices:
            return value in self.choices
        return self.low <= value <= self.high and not (self.is_whole and value % 1)

    def __str__(self) -> str:
        return ", ".join(map(str, self.choices)) if self.choices else f"{self.low} to {self.high}"
