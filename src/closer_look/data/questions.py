"""The questions table: its schema, and the conversion of raw rows into it.

Columns: ``row_id`` (unique), ``task_id`` (1..T; 0 = never forgotten), ``split``, ``subject``,
``question``, ``answer`` (the text that is trained), ``gold_answer`` (for ROUGE and probability; the
answer if absent), ``reference_answer`` (for the similarity of meaning, if that needs another
sentence), ``paraphrased_question``, ``paraphrased_answer``, ``wrong_answers`` (a list),
``key_fact`` and ``related`` (a list of other questions that lead to the same fact, see
``RELATED``). A file may lack every column after ``answer``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError

from closer_look.errors import InputError, listed, quote
from closer_look.metrics.rows import HOLDOUT
from closer_look.parameters.experiment import SPLITS
from closer_look.parameters.methods import SUBJECTS

# Column names of the files published with TOFU and with arXiv 2410.08109.
PUBLISHED_NAMES = {
    "perturbed_answer": "wrong_answers",
    "original_answer": "reference_answer",
    "golden_answer": "gold_answer",
    "name": "subject",
}


# All but line break and tab. Texts do not need them, and terminals execute some of them. Half a
# surrogate pair, which JSON can contain, is not a valid character.
CONTROL_CHARACTER = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
LONGEST_TEXT = 1_000_000  # characters: more than a context holds, and tokenised within seconds


def _is_text(value: object) -> bool:
    """Check that a text has a visible character: not only blanks or zero-width ones."""
    return isinstance(value, str) and any(
        not character.isspace() and unicodedata.category(character) != "Cf" for character in value
    )


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(_is_text(item) for item in value)


def _is_list_of_related(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(item, dict)
        and item.keys() <= {*RELATED}
        and _is_text(item.get("question"))
        and all(text is None or _is_text(text) for text in item.values())
        for item in value
    )


RELATED = ("question", "kind", "answer", "key_fact")
"""Fields of a related question: its text; of what kind it is, in words ("in two steps"); and answer
and key fact, if they are not the row's own."""

ONE_LINE = pa.Check(
    lambda value: value.splitlines() == [value], element_wise=True, error="must be on one line"
)
# Not pandera's own ``unique``: it runs before the other checks and fails on unhashable values.
NAMED_ONCE = pa.Check(lambda values: ~values.duplicated(), error="occurs more than once")


def _text(*further: pa.Check, optional: bool = False) -> pa.Column:
    check = pa.Check(_is_text, element_wise=True, error="must be a text that is not empty")
    return pa.Column(object, [check, *further], nullable=optional)


QUESTIONS = pa.DataFrameSchema(
    {
        "row_id": _text(ONE_LINE, NAMED_ONCE),
        "task_id": pa.Column(
            int, pa.Check(lambda ids: ids >= 0, error="must be 0 or a positive integer")
        ),
        "split": pa.Column(
            object, pa.Check.isin((*SPLITS, HOLDOUT), error=f"must be one of {', '.join(SPLITS)}")
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
        "related": pa.Column(
            object,
            pa.Check(
                _is_list_of_related,
                element_wise=True,
                error=f"must be a list of questions, each with texts for {', '.join(RELATED)}",
            ),
            nullable=True,
        ),
    },
    strict=True,
    ordered=True,
)


def to_questions(rows: list[Mapping[str, object]], split: str, source: str) -> pd.DataFrame:
    """Convert raw rows into a questions table.

    Args:
        rows: one mapping per row; column names of the published files are translated.
        split: one of ``SPLITS``, or ``HOLDOUT``; ``task_id`` is read in the forget split only,
            whose rows are all of one task if there is no such column.
        source: name of the rows in error messages, such as their file.

    Raises:
        InputError: a column is missing or a value breaks the schema.
    """
    if not rows:
        raise InputError(f"{source}: the table is empty")
    known = [
        {name: row[name] for name in row.keys() & {*QUESTIONS.columns, *PUBLISHED_NAMES}}
        for row in rows
    ]
    raw = pd.DataFrame(known, dtype=object).rename(columns=PUBLISHED_NAMES)
    repeated = raw.columns[raw.columns.duplicated()]
    if len(repeated):
        names = [old for old, new in PUBLISHED_NAMES.items() if new == repeated[0]]
        raise InputError(
            f"{source}: column '{repeated[0]}' comes more than once "
            f"({' and '.join(names)} mean the same); keep one of them"
        )
    for column in ("question", "answer"):
        if column not in raw:
            raise InputError(f"{source}: column '{column}' is missing")
    table = raw.reindex(columns=list(QUESTIONS.columns)).astype(object)
    table = table.where(table.notna(), None)  # parquet reads missing values as None, not NaN
    numbered = [f"{split}-{number:04d}" for number in range(1, len(raw) + 1)]
    table = table.assign(
        split=split,
        row_id=table["row_id"].where(table["row_id"].notna(), numbered),
        gold_answer=table["gold_answer"].where(table["gold_answer"].notna(), table["answer"]),
        **{
            column: [[] if value is None else value for value in table[column]]
            for column in ("wrong_answers", "related")
        },
    ).astype(object)
    if split == "forget":
        table["task_id"] = _task_ids(raw["task_id"], source) if "task_id" in raw else 1
    else:
        table["task_id"] = 0
    return check_questions(table, source)


def check_questions(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """Check a questions table against the schema.

    Raises:
        InputError: a value breaks it; the message names the source, the row and the column.
    """
    _check_texts(table, source)  # first: pandera cannot print half a surrogate pair
    try:
        return QUESTIONS.validate(table)
    except SchemaError as error:
        raise InputError(f"{source}: {_first_fault(error, table)}") from None


def check_text(text: str, name: str) -> None:
    """Refuse control characters other than line break and tab, and what no model can read at once.

    Raises:
        InputError: the text holds one, or is too long; the message says ``name`` and which.
    """
    fault = _fault_of(text)
    if fault:
        raise InputError(f"{name} {fault}")


def _fault_of(text: str) -> str | None:
    found = CONTROL_CHARACTER.search(text)
    if found:
        return f"holds the control character {found[0]!r}: {quote(text)}"
    if len(text) > LONGEST_TEXT:
        return f"has {len(text):,} characters; leave it out, or keep {LONGEST_TEXT:,} of them"
    return None


def _check_texts(table: pd.DataFrame, source: str) -> None:
    for column in table:
        for number, value in enumerate(table[column], start=1):
            for text in _texts_in(value):
                fault = _fault_of(text)
                if fault:
                    raise InputError(f"{source}: row {number}: {column} {fault}")


def _texts_in(value: object) -> list[str]:
    """List the texts of a cell, at any depth."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [text for one in value for text in _texts_in(one)]
    return [value] if isinstance(value, str) else []


def _task_ids(values: pd.Series, source: str) -> pd.Series:
    for number, value in enumerate(values, start=1):
        if not _is_task_id(value):
            raise InputError(
                f"{source}: row {number}: task_id must be a positive integer, not {quote(value)}"
            )
    numbers = values.astype(float).astype(int)
    gaps = set(range(1, numbers.nunique() + 1)) - set(numbers)
    if gaps:
        raise InputError(
            f"{source}: no row has task_id {min(gaps)}; tasks are numbered from 1 without a gap"
        )
    return numbers


def _is_task_id(value: object) -> bool:
    """Check for a positive integer, which may be text (CSV) or end in ``.0``."""
    written = str(value) if isinstance(value, (str, int, float)) else ""
    return re.fullmatch(r"\s*0*[1-9][0-9]{0,8}(\.0)?\s*", written) is not None


def _first_fault(error: SchemaError, table: pd.DataFrame) -> str:
    column = error.schema.name
    if not isinstance(error.failure_cases, pd.DataFrame):
        return str(error)
    case = error.failure_cases.iloc[0]
    position = table.index.get_loc(case["index"])
    if str(error.reason_code.name) == "SERIES_CONTAINS_NULLS":
        return f"row {position + 1}: {column} is missing"
    what = getattr(error.check, "error", None) or str(error.check)
    if what == NAMED_ONCE.error:
        return f"{column} {quote(case['failure_case'])} {what}"
    return f"row {position + 1}: {column} {what}, not {quote(case['failure_case'])}"


def rows_to_evaluate(
    questions: pd.DataFrame, n_rows: int, splits: Collection[str] | None
) -> pd.DataFrame:
    """Take the first rows of each split and task, of some splits or of all."""
    if splits:
        questions = questions[questions["split"].isin(splits)]
    return questions.groupby(["split", "task_id"], sort=False).head(n_rows)


def given_answers(evaluation: pd.DataFrame) -> pd.DataFrame:
    """List the answers to score for each row: gold, paraphrased and wrong ones.

    Args:
        evaluation: rows of the questions table.

    Returns:
        ``split``, ``row_id``, ``question``, ``kind`` ("answer", "paraphrased", "wrong_1", ...)
        and ``text``.
    """
    listed = []
    for row in evaluation.itertuples():
        texts = {"answer": row.gold_answer}
        if isinstance(row.paraphrased_answer, str):
            texts["paraphrased"] = row.paraphrased_answer
        texts |= {f"wrong_{n}": text for n, text in enumerate(row.wrong_answers, start=1)}
        listed += [
            {"split": row.split, "row_id": row.row_id, "question": row.question, "kind": kind}
            | {"text": text}
            for kind, text in texts.items()
        ]
    return pd.DataFrame(listed)


def answers_to_score(evaluation: pd.DataFrame, holdout: pd.DataFrame | None = None) -> pd.DataFrame:
    """List the answers to score: all given answers of rows to evaluate, the gold ones of others.

    Args:
        evaluation: rows of the questions table.
        holdout: rows of the split ``HOLDOUT``, if there are any; they come after the others.

    Returns:
        As ``given_answers``.
    """
    if holdout is None:
        return given_answers(evaluation)
    answers = given_answers(pd.concat([evaluation, holdout], ignore_index=True))
    is_scored = (answers["split"] != HOLDOUT) | (answers["kind"] == "answer")
    return answers[is_scored].reset_index(drop=True)


def select_holdout(unknown_questions: pd.DataFrame, n_declined: int, n_rows: int) -> pd.DataFrame:
    """Select rows that no model of the run sees, to compare rows to forget with.

    Args:
        unknown_questions: rows of tasks beyond the run's.
        n_declined: how many of them, from the first, a model learns to decline.
        n_rows: largest number of rows.

    Returns:
        Rows of the split ``HOLDOUT``, those of the next tasks; none if there are no more.
    """
    return unknown_questions.iloc[n_declined:][:n_rows].assign(split=HOLDOUT).reset_index(drop=True)


def given_texts(questions: pd.DataFrame) -> pd.DataFrame:
    """List every answer that a run may train on or score.

    Args:
        questions: rows of the questions table.

    Returns:
        ``row_id``, ``question``, ``kind`` and ``text``.
    """
    trained = questions.melt(["row_id", "question"], ["answer", "reference_answer"], "kind", "text")
    return pd.concat([trained.dropna(), given_answers(questions)])


def name_subjects(text: str, questions: pd.DataFrame) -> str:
    """Write the subjects of the rows to forget into a text, each once, in their order.

    Args:
        text: an instruction, with ``{subjects}`` where they are to stand, if anywhere.
        questions: rows to forget, among others, with their ``subject``.

    Returns:
        The text, without spaces at its ends.

    Raises:
        InputError: the text asks for subjects, and a row names none.
    """
    if SUBJECTS not in text:
        return text.strip()
    to_forget = questions[questions["task_id"] > 0]
    nameless = to_forget.loc[to_forget["subject"].isna(), "row_id"]
    if len(nameless):
        raise InputError(
            f"row {quote(nameless.iloc[0])}: it names no subject, on which an instruction could "
            f"ask to be silent; add the column 'subject', or leave the method out"
        )
    return text.strip().replace(SUBJECTS, listed(list(to_forget["subject"].drop_duplicates())))
