"""The dataset of the page that shows what would be trained."""

from __future__ import annotations

import logging

from kedro_datasets._typing import HTMLPreview
from kedro_datasets.text import TextDataset

from closer_look.datasets.places import place_of
from closer_look.system.storage import shown

log = logging.getLogger(__name__)


class Page(str):
    """A page of HTML, which a notebook shows as such."""

    def _repr_html_(self) -> str:
        return self


class InspectionDataset(TextDataset):
    """A page of HTML without scripts; it logs its path when it is saved.

    Example::

        inspection:
          type: closer_look.datasets.inspection_dataset.InspectionDataset
          filepath: data/08_reporting/people/inspection.html
    """

    def load(self) -> Page:
        """Load the page; as the last line of a notebook's cell, it is shown."""
        return Page(super().load())

    def save(self, data: str) -> None:
        """Save the page and log its path."""
        super().save(data)
        page = shown(place_of(self, self._get_load_path()))
        log.info("What would be trained, in colours: %s", page)

    def preview(self) -> HTMLPreview:
        """Show the page in kedro-viz, which takes a line break for ``<br>``, in styles too."""
        return HTMLPreview(self.load().replace("\n", " "))
