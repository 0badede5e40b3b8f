"""Datasets of the project's inputs: raw rows of a split, and refusal sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fsspec
import pandas as pd
from kedro.io.core import AbstractDataset, DatasetError
from kedro_datasets._typing import TablePreview

from closer_look.data.questions import check_text, to_questions
from closer_look.datasets.lines import read_lines
from closer_look.datasets.row_files import find_tables, read_rows, table_files
from closer_look.datasets.table_dataset import preview_rows


class _ReadOnlyDataset(AbstractDataset):
    """A file, in a folder or at a URL, that is only read."""

    def __init__(
        self, *, filepath: str, source: str = "", metadata: dict[str, Any] | None = None
    ) -> None:
        self._filepath = filepath
        self._source = source
        self.metadata = metadata

    def save(self, data: None) -> None:
        raise DatasetError(f"{self._filepath} is read only")

    def sources(self) -> list[str]:
        """List the files that exist."""
        return [self._filepath] if self.exists() else []

    def _exists(self) -> bool:
        filesystem, path = fsspec.url_to_fs(self._filepath)
        return filesystem.exists(path)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class QuestionsDataset(_ReadOnlyDataset):
    """Rows of one split, with the columns of ``closer_look.data.questions``.

    They are in JSON (an object a line, or one array), CSV or Parquet, or in a folder of the library
    ``datasets``. A path without an ending finds the one file that has this name and an ending.

    Example::

        raw_forget:
          type: closer_look.datasets.raw_rows.QuestionsDataset
          filepath: data/01_raw/invented_people/forget
          split: forget
    """

    def __init__(
        self,
        *,
        split: str,
        task_id: int | None = None,
        details: str | None = None,
        **arguments: Any,
    ) -> None:
        """Set up.

        Args:
            split: the split of all rows.
            task_id: the task of all rows, if the file has no such column.
            details: another file with further columns (paraphrases, wrong answers) for some of the
                rows; rows with the same question and answer are joined.
            arguments: ``filepath`` (path or URL that fsspec understands), ``source`` (where to get
                the file, for the error if it is missing) and ``metadata`` (for kedro-viz).
        """
        super().__init__(**arguments)
        self._split = split
        self._task_id = task_id
        self._details = details

    def load(self) -> pd.DataFrame:
        """Read, check and convert the rows.

        Raises:
            InputError: the rows are missing, there twice, in no known format, or break the schema.
        """
        files, rows = self._read(self._filepath)
        if self._details:
            detailed = {_asked(row): row for row in self._read(self._details)[1]}
            rows = [detailed.get(_asked(row), {}) | row for row in rows]
        if self._task_id is not None:
            rows = [row | {"task_id": self._task_id} for row in rows]
        return to_questions(rows, self._split, files[0] if len(files) == 1 else self._filepath)

    def _read(self, filepath: str) -> tuple[list[str], list[dict[str, Any]]]:
        files = table_files(filepath, self._source)
        return files, [row for file in files for row in read_rows(file, self._source)]

    def sources(self) -> list[str]:
        """List the files that hold the rows."""
        paths = filter(None, (self._filepath, self._details))
        return [file for path in paths if find_tables(path) for file in table_files(path)]

    def _exists(self) -> bool:
        return bool(find_tables(self._filepath))

    def preview(self, nrows: int = 5) -> TablePreview:
        """Show the first rows in kedro-viz."""
        return preview_rows(self.load().head(nrows))


def _asked(row: Mapping[str, Any]) -> str:
    return repr((row.get("question"), row.get("answer")))  # unchecked: they may be unhashable


class RefusalsDataset(_ReadOnlyDataset):
    """A text file with one refusal sentence per line.

    Example::

        refusals:
          type: closer_look.datasets.raw_rows.RefusalsDataset
          filepath: data/01_raw/invented_people/refusals.txt
    """

    def load(self) -> list[str]:
        """Read the sentences.

        Raises:
            InputError: the file is missing or empty, or a line is too long or holds a control
                character.
        """
        lines = read_lines(self._filepath, self._source)
        for number, line in lines.items():
            check_text(line, f"{self._filepath}: line {number}")
        return list(lines.values())

    def preview(self, nrows: int = 5) -> TablePreview:
        """Show the first sentences in kedro-viz."""
        return preview_rows(pd.DataFrame({"refusal": self.load()[:nrows]}))
