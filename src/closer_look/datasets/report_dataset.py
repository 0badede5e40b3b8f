"""The dataset of the report, which logs its path."""

from __future__ import annotations

import logging

from kedro_datasets.text import TextDataset

from closer_look.datasets.places import place_of
from closer_look.system.storage import shown

log = logging.getLogger(__name__)


class ReportDataset(TextDataset):
    """A text file that logs its path when it is saved: the last line of a run.

    Example::

        "{scenario}.report":
          type: closer_look.datasets.report_dataset.ReportDataset
          filepath: data/08_reporting/people/{scenario}/report.html
          versioned: true
    """

    def save(self, data: str) -> None:
        """Save the report and log its path."""
        super().save(data)
        log.info("Report: %s", shown(place_of(self, self._get_load_path())))
