"""Finds the files of a table of rows, and reads them whatever their format.

A table is a file, a folder that the library ``datasets`` has saved, or a folder of Parquet files as
on the Hugging Face hub. Its path may lack the ending: ``rows/forget`` finds ``rows/forget.csv``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import fsspec

from closer_look.datasets.lines import opened, read_csv, read_json
from closer_look.errors import InputError, first_line, listed

if TYPE_CHECKING:
    from pyarrow import Table

ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
SHARD = re.compile(r"(.+)-\d{5}-of-\d{5}\.parquet")  # of a split, on the hub


def find_tables(filepath: str) -> list[str]:
    """Find what a path without an ending may mean.

    Args:
        filepath: path or URL that fsspec understands; one that exists or has an ending is itself.

    Returns:
        Paths of files and folders: no or one, or several that are in each other's way.
    """
    filesystem, path = fsspec.url_to_fs(filepath)
    if _ending(filepath) in (*ENDINGS, *SPREADSHEETS):
        return [filepath] if filesystem.exists(path) else []
    if "://" in filepath:  # of a URL, no neighbours are listed
        names = [filepath, *(f"{filepath}{ending}" for ending in ENDINGS)]
        return [name for name in names if filesystem.exists(fsspec.url_to_fs(name)[1])]
    wanted = Path(filepath)
    found = [
        str(other)
        for other in sorted(wanted.parent.glob("*"))
        if other.name == wanted.name
        or (other.stem == wanted.name and _ending(other.name) in (*ENDINGS, *SPREADSHEETS))
    ]
    return found or ([filepath] if _shards(wanted) else [])


def table_files(filepath: str, source: str = "") -> list[str]:
    """List the files of a table, in their order.

    Args:
        filepath: as of ``find_tables``.
        source: where to get the table, for the error if it is missing.

    Raises:
        InputError: there is no such table, or more than one.
    """
    if "://" in filepath and _ending(filepath) in ENDINGS:
        return [filepath]  # one request less, and what fails says why
    tables = find_tables(filepath)
    if len(tables) > 1:
        names = listed([PurePosixPath(table).name for table in tables])
        raise InputError(f"{filepath}: {names} are there; keep one of them")
    if not tables:
        raise InputError(_missing(filepath) + (f"; {source}" if source else ""))
    folder = Path(tables[0])
    if "://" in tables[0] or folder.is_file():
        return tables
    return [str(file) for file in _files_of(folder)]


def read_rows(file: str, source: str = "") -> list[dict[str, Any]]:
    """Read one file of a table; its ending says how.

    Integers come as texts, and line ends of Windows as line feeds.

    Raises:
        InputError: it is a spreadsheet, or not in the format that its ending names.
    """
    ending = _ending(file)
    if ending in SPREADSHEETS:
        raise InputError(f"{file} is a spreadsheet; save it as CSV in UTF-8")
    read = READERS.get(ending, read_json)
    return [{name: _plain(cell) for name, cell in row.items()} for row in read(file, source)]


def _read_parquet(file: str, source: str) -> list[dict[str, Any]]:
    from pyarrow import parquet

    return _read_arrow(file, source, parquet.read_table)


def _read_stream(file: str, source: str) -> list[dict[str, Any]]:
    from pyarrow import ipc

    return _read_arrow(file, source, lambda content: ipc.open_stream(content).read_all())


def _read_arrow(file: str, source: str, read: Callable[[Any], Table]) -> list[dict[str, Any]]:
    from pyarrow import ArrowInvalid

    with opened(file, source) as content:
        try:
            return read(content).to_pylist()
        except ArrowInvalid as error:
            raise InputError(f"{file} cannot be read ({first_line(error)})") from None


READERS = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_stream,
}
"""Ending -> reader; everything else is JSON."""


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, str):
        return value.replace("\r\n", "\n")
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _files_of(folder: Path) -> list[Path]:
    """List the files of one split: of a saved data set, or of the hub's Parquet files."""
    state = folder / "state.json"
    if state.is_file():
        try:
            saved = json.loads(state.read_text(encoding="utf-8"))["_data_files"]
            return [folder / file["filename"] for file in saved]
        except (ValueError, LookupError, TypeError):
            raise InputError(
                f"{state} is not what save_to_disk writes; save the rows anew"
            ) from None
    shards = _shards(folder) or sorted(folder.rglob("*.parquet"))
    splits = {_split(shard) for shard in shards} | {
        path.parent.name for path in folder.glob("*/state.json")
    }
    if len(splits) > 1:
        names = listed(sorted(splits))
        raise InputError(f"{folder} holds {names}; name one: {folder / min(splits)}")
    if not shards and splits:
        return _files_of(folder / splits.pop())
    if not shards:
        raise InputError(f"{folder} is a folder, and holds no rows in Parquet or of datasets")
    return shards


def _shards(table: Path) -> list[Path]:
    """List the Parquet files of a split in a copy of a hub's data set."""
    places = (table.parent, table.parent / "data")
    found = [shard for place in places for shard in place.glob("*.parquet")]
    return sorted(shard for shard in found if _split(shard) == table.name)


def _split(shard: Path) -> str:
    named = SHARD.fullmatch(shard.name)
    return named[1] if named else shard.stem


def _missing(filepath: str) -> str:
    path = Path(filepath)
    if "://" not in filepath and not path.parent.is_dir():
        return f"{path.parent}: there is no such folder"
    if _ending(filepath) in ENDINGS:
        return f"{filepath} is missing"
    return f"{filepath} is missing, as {', '.join(ENDINGS)} or a folder"


def _ending(filepath: str) -> str:
    return PurePosixPath(filepath.partition("?")[0]).suffix.lower()
