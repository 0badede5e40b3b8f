"""Names beside the marks of a figure, placed so that none covers another."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, sin
from typing import NamedTuple

LINE, LETTER = 14, 6.4  # px, of 11 px text
MARK = 7  # px, from the middle of a mark to its edge
DISTANCES = (18, 28, 40, 54, 70, 88, 108)
ANGLES = [direction * pi / 8 for direction in (0, 8, 4, 12, 2, 6, 10, 14, *range(1, 16, 2))]


class Box(NamedTuple):
    """A rectangle, px."""

    left: float
    bottom: float
    right: float
    top: float

    @classmethod
    def around(cls, x: float, y: float, width: float, height: float) -> Box:
        """Create a box around its middle."""
        return cls(x - width / 2, y - height / 2, x + width / 2, y + height / 2)

    def meets(self, other: Box) -> bool:
        """Return whether two boxes overlap."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def within(self, width: float, height: float) -> bool:
        """Return whether the box lies in a plot of that size."""
        return self.left >= 0 and self.bottom >= 0 and self.right <= width and self.top <= height


def place_names(
    marks: Sequence[tuple[float, float]], names: Sequence[str], width: float, height: float
) -> list[tuple[float, float] | None]:
    """Find a place for each name near its mark, the first names first.

    Args:
        marks: middle of each mark, px from the lower left corner of the plot.
        names: what to write, a name a mark.
        width: of the plot, px.
        height: of the plot, px.

    Returns:
        Steps from each mark to the middle of its name (px to the right, px up); None for a name
        without room.
    """
    taken = [Box.around(x, y, 2 * MARK, 2 * MARK) for x, y in marks]
    places: list[tuple[float, float] | None] = []
    for (x, y), name in zip(marks, names, strict=True):
        size = (LETTER * len(name) + 4, LINE)
        candidates = (
            (cos(angle) * (distance + size[0] / 2), sin(angle) * distance)
            for distance in DISTANCES
            for angle in ANGLES
        )
        for right, up in candidates:
            box = Box.around(x + right, y + up, *size)
            if box.within(width, height) and not any(box.meets(other) for other in taken):
                taken.append(box)
                places.append((right, up))
                break
        else:
            places.append(None)
    return places
