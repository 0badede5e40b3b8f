"""A bar over a piece of work in a terminal or a notebook, elsewhere a line of log now and then."""

from __future__ import annotations

import io
import logging
import sys

import tqdm.auto

LINE_EVERY = 30.0  # seconds, without a terminal; shorter work needs no line

log = logging.getLogger(__name__)


def progress_bar(total: int, description: str, unit: str) -> tqdm.tqdm:
    """Show how far a piece of work is, how fast it goes and how long it still takes.

    Args:
        total: units of work.
        description: of the work, in a word or two.
        unit: what is counted, in the singular.
    """
    what = {"total": total, "desc": description, "unit": f" {unit}"}
    if _is_seen():
        return tqdm.auto.tqdm(**what, dynamic_ncols=True)
    return _Lines(
        **what,
        mininterval=LINE_EVERY,
        miniters=1,
        delay=LINE_EVERY,
        file=io.StringIO(),  # what the bar itself would draw
        bar_format="{desc}: {n_fmt} of {total_fmt}{unit}s, {rate_fmt}, {remaining} left{postfix}",
    )


def _is_seen() -> bool:
    in_notebook = tqdm.auto.notebook_tqdm is not tqdm.auto.std_tqdm
    return in_notebook or sys.stderr.isatty()


class _Lines(tqdm.std.tqdm):
    monitor_interval = 0  # no thread that draws between updates

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Log what the bar would say."""
        log.info(msg or str(self))
        return True
