"""The dataset of tables in Parquet, with a preview for kedro-viz."""

from __future__ import annotations

from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from kedro.io.core import DatasetError
from kedro_datasets._typing import TablePreview
from kedro_datasets.pandas import ParquetDataset
from pyarrow import ArrowInvalid

from closer_look.datasets.places import place_of
from closer_look.errors import InputError, first_line

LIST_WIDTH = 60  # characters
DIGITS = 4


class TableDataset(ParquetDataset):
    """A ``pandas.ParquetDataset`` that names a damaged file, and can preview columns of lists.

    Example::

        questions:
          type: closer_look.datasets.table_dataset.TableDataset
          filepath: data/03_primary/people/questions.parquet
    """

    def load(self) -> pd.DataFrame:
        """Read the table.

        Raises:
            InputError: the file is damaged, or no Parquet.
        """
        try:
            return super().load()
        except DatasetError as error:
            if not isinstance(error.__cause__, ArrowInvalid):
                raise
            place = place_of(self, self._get_load_path())
            raise InputError(
                f"{place} cannot be read ({first_line(error.__cause__)}); put the whole file "
                f"there, or delete it"
            ) from None

    def preview(self, nrows: int = 5) -> TablePreview:
        """Show the first rows in kedro-viz."""
        return preview_rows(self.load().head(nrows))


def preview_rows(table: pd.DataFrame) -> TablePreview:
    """Format rows for a reader: lists as short text, numbers rounded, missing values empty."""
    return TablePreview(table.astype(object).map(_readable).to_dict(orient="split"))


def _readable(value: Any) -> Any:
    if isinstance(value, (list, tuple, np.ndarray)):
        text = " | ".join(str(_readable(item)) for item in value)
        return shorten(text, LIST_WIDTH, placeholder=" …")
    if pd.isna(value):
        return ""
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
