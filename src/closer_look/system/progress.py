"""Progress of a piece of work: a bar in a terminal or notebook, log lines elsewhere."""

from __future__ import annotations

import io
import logging
import sys

import tqdm.auto

LINE_EVERY = 30.0  # seconds between log lines; shorter work logs none

log = logging.getLogger(__name__)


def progress_bar(total: int, description: str, unit: str) -> tqdm.tqdm:
    """Show the progress of a piece of work, its speed and the time left.

    Args:
        total: number of units of work.
        description: one or two words about the work.
        unit: name of a unit, in the singular.
    """
    what = {"total": total, "desc": description, "unit": f" {unit}"}
    if _is_seen():
        return tqdm.auto.tqdm(**what, dynamic_ncols=True)
    return _Lines(
        **what,
        mininterval=LINE_EVERY,
        miniters=1,
        delay=LINE_EVERY,
        file=io.StringIO(),  # discards the bar itself
        bar_format="{desc}: {n_fmt} of {total_fmt}{unit}s, {rate_fmt}, {remaining} left{postfix}",
    )


def _is_seen() -> bool:
    in_notebook = tqdm.auto.notebook_tqdm is not tqdm.auto.std_tqdm
    return in_notebook or sys.stderr.isatty()


class _Lines(tqdm.std.tqdm):
    monitor_interval = 0  # no thread that redraws between updates

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Log the text of the bar."""
        log.info(msg or str(self))
        return True
