"""The rows that serving works with: to retain, to forget, and to ask again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from closer_look.erasure.ledger import Line
from closer_look.erasure.requests import Checked, normalised, salted


def without_forgotten(retained: pd.DataFrame, lines: Iterable[Line], salt: bytes) -> pd.DataFrame:
    """Leave out rows to retain that a request was about: training would bring them back.

    Args:
        retained: rows to retain.
        lines: of the ledger.
        salt: of its hashes.
    """
    decided = [line for line in lines if line.question_sha256]
    questions = {one for line in decided for one in line.question_sha256}
    subjects = {one for line in decided for one in line.subject_sha256}

    def hashed(text: str) -> str:
        return salted(normalised(text), salt)

    is_forgotten = retained["question"].map(hashed).isin(questions)
    is_forgotten |= retained["subject"].map(hashed, na_action="ignore").isin(subjects)
    return retained[~is_forgotten]


def stack(to_retain: pd.DataFrame, groups: Iterable[pd.DataFrame], first: int = 1) -> pd.DataFrame:
    """Put rows to retain and those of requests into one table, each request as a task of its own.

    Args:
        to_retain: rows of task 0.
        groups: rows of each request.
        first: number of the first request's task.
    """
    numbered = [rows.assign(task_id=task_id) for task_id, rows in enumerate(groups, start=first)]
    return pd.concat([to_retain, *numbered], ignore_index=True)


def choose_to_recheck(
    decided: Mapping[str, Checked], lines: Sequence[Line], most_rows: int
) -> dict[str, pd.DataFrame]:
    """Choose the earlier requests to ask again, those first that were not asked for the longest.

    So the work does not grow with the requests that were served, and each has its turn.

    Args:
        decided: files of requests that are decided, by request.
        lines: of the ledger.
        most_rows: largest number of rows.

    Returns:
        Request -> rows.
    """
    asked: dict[str, int] = {}
    for line in lines:
        if line.kind == "served" and line.request_id in decided:
            asked[line.request_id] = line.index
        asked |= {one["request_id"]: line.index for one in line.rechecked}
    chosen: dict[str, pd.DataFrame] = {}
    present = [request_id for request_id in asked if request_id in decided]
    for request_id in sorted(present, key=asked.__getitem__):
        if most_rows <= 0:
            break
        chosen[request_id] = decided[request_id].rows().head(most_rows)
        most_rows -= len(chosen[request_id])
    return chosen
