"""The questions table: the one form in which rows come into the project.

Columns: ``row_id`` (unique), ``task_id`` (1..T; 0 = never forgotten), ``split``, ``subject``,
``question``, ``answer`` (what is trained), ``gold_answer`` (what ROUGE and probability are taken
of; the answer if absent), ``reference_answer`` (what an answer's meaning is compared with, if that
is another sentence), ``paraphrased_question``, ``paraphrased_answer``, ``wrong_answers`` (a list)
and ``key_fact``. Everything after ``answer`` may be absent in a file.
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError

from closer_look.errors import InputError
from closer_look.parameters import SPLITS

# Names in the files published with TOFU and with arXiv 2410.08109.
PUBLISHED_NAMES = {
    "perturbed_answer": "wrong_answers",
    "original_answer": "reference_answer",
    "golden_answer": "gold_answer",
    "name": "subject",
}


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(item) for item in value)


def _text(*, optional: bool = False, unique: bool = False) -> pa.Column:
    check = pa.Check(_is_text, element_wise=True, error="must be a text that is not empty")
    return pa.Column(object, check, nullable=optional, unique=unique)


QUESTIONS = pa.DataFrameSchema(
    {
        "row_id": _text(unique=True),
        "task_id": pa.Column(
            int, pa.Check(lambda ids: ids >= 0, error="must be 0 or a positive integer")
        ),
        "split": pa.Column(
            object, pa.Check.isin(SPLITS, error=f"must be one of {', '.join(SPLITS)}")
        ),
        "subject": _text(optional=True),
        "question": _text(),
        "answer": _text(),
        "gold_answer": _text(),
        "reference_answer": _text(optional=True),
        "paraphrased_question": _text(optional=True),
        "paraphrased_answer": _text(optional=True),
        "wrong_answers": pa.Column(
            object,
            pa.Check(_is_list_of_texts, element_wise=True, error="must be a list of texts"),
        ),
        "key_fact": _text(optional=True),
    },
    strict=True,
    ordered=True,
)


def to_questions(rows: list[Mapping[str, object]], split: str, source: str) -> pd.DataFrame:
    """Bring raw rows into the questions table.

    Args:
        rows: as read, one mapping a row; the published files' column names are understood.
        split: one of ``SPLITS``; its rows' ``task_id`` counts in the forget split only.
        source: what to call the rows in an error, such as their file.

    Raises:
        InputError: a column is missing or a value is not what the contract says.
    """
    if not rows:
        raise InputError(f"{source}: the table is empty")
    raw = pd.DataFrame(rows, dtype=object).rename(columns=PUBLISHED_NAMES)
    repeated = raw.columns[raw.columns.duplicated()]
    if len(repeated):
        names = [old for old, new in PUBLISHED_NAMES.items() if new == repeated[0]]
        raise InputError(
            f"{source}: column '{repeated[0]}' comes more than once "
            f"({' and '.join(names)} mean the same)"
        )
    required = ["question", "answer", *(["task_id"] if split == "forget" else [])]
    for column in required:
        if column not in raw:
            hint = "; task_id: 1 in the catalog gives all rows to one task"
            hint = hint if column == "task_id" else ""
            raise InputError(f"{source}: column '{column}' is missing{hint}")
    table = raw.reindex(columns=list(QUESTIONS.columns)).astype(object)
    table = table.where(table.notna(), None)  # None, not NaN, is what a parquet file gives back
    numbered = [f"{split}-{number:04d}" for number in range(1, len(raw) + 1)]
    table = table.assign(
        split=split,
        row_id=table["row_id"].where(table["row_id"].notna(), numbered),
        gold_answer=table["gold_answer"].where(table["gold_answer"].notna(), table["answer"]),
        wrong_answers=[[] if value is None else value for value in table["wrong_answers"]],
    ).astype(object)
    table["task_id"] = _task_ids(raw["task_id"], source) if split == "forget" else 0
    return check_questions(table, source)


def check_questions(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Hold a table against the contract.

    Raises:
        InputError: naming the source, the row and the column.
    """
    try:
        return QUESTIONS.validate(table)
    except SchemaError as error:
        raise InputError(f"{source}: {_first_fault(error, table)}") from None


def _task_ids(values: pd.Series, source: str) -> pd.Series:
    numbers = pd.to_numeric(values, errors="coerce")
    faulty = numbers.isna() | (numbers % 1 != 0) | (numbers < 1)
    if faulty.any():
        first = int(faulty.to_numpy().argmax())
        raise InputError(
            f"{source}: row {first + 1}: task_id must be a positive integer, "
            f"not {values.iloc[first]!r}"
        )
    numbers = numbers.astype(int)
    gaps = set(range(1, numbers.nunique() + 1)) - set(numbers)
    if gaps:
        raise InputError(
            f"{source}: no row has task_id {min(gaps)}; tasks are numbered from 1 without a gap"
        )
    return numbers


def _first_fault(error: SchemaError, table: pd.DataFrame) -> str:
    column = error.schema.name
    if not isinstance(error.failure_cases, pd.DataFrame):
        return str(error)
    case = error.failure_cases.iloc[0]
    position = table.index.get_loc(case["index"])
    if str(error.reason_code.name) == "SERIES_CONTAINS_DUPLICATES":
        return f"{column} '{case['failure_case']}' occurs more than once"
    if str(error.reason_code.name) == "SERIES_CONTAINS_NULLS":
        return f"row {position + 1}: {column} is missing"
    what = getattr(error.check, "error", None) or str(error.check)
    return f"row {position + 1}: {column} {what}, not {case['failure_case']!r}"
