"""Which tasks lm-evaluation-harness (``lm-eval``) knows, without loading it."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from closer_look.errors import InputError

# The harness parses 14 000 files for seconds to index its tasks; for their names this is enough.
TASK_NAME = re.compile(
    rb"""^["']?(?:task|group)["']?[ \t]*:[ \t]*["']?([^\s"'\[{#]+)""", re.MULTILINE
)


def check_harness(tasks: Iterable[str], include_path: str | None) -> None:
    """See that lm-eval is installed and knows the tasks, without a network and without loading it.

    Args:
        tasks: names of tasks or groups of tasks.
        include_path: folder with task descriptions (YAML) of one's own.

    Raises:
        InputError: lm-eval is not installed, there is no such folder, or neither lm-eval nor the
            folder has a task of that name.
    """
    package = find_spec("lm_eval")
    if package is None or package.origin is None:
        raise InputError(
            "parameter downstream: lm-eval is not installed; pip install 'closer-look[downstream]'"
        )
    names = _names(Path(package.origin).parent / "tasks")
    if include_path is not None:
        if not Path(include_path).is_dir():
            raise InputError(
                f"parameter downstream.include_path: there is no folder '{include_path}'"
            )
        names = names | _names(Path(include_path))
    for task in tasks:
        if task not in names:
            close = difflib.get_close_matches(task, names)
            hint = f", but {', '.join(close)}" if close else ""
            raise InputError(
                f"parameter downstream.tasks: lm-eval knows no task or group '{task}'{hint}"
            )


def _names(folder: Path) -> set[str]:
    return {
        name.decode()
        for path in folder.rglob("*.yaml")
        for name in TASK_NAME.findall(path.read_bytes())
    }
