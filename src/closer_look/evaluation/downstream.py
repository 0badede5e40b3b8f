"""General abilities of a model, measured with EleutherAI's lm-evaluation-harness (``lm-eval``).

arXiv 2410.08109 reports ARC-c, MMLU, TruthfulQA, TriviaQA and GSM8K before and after real people
are unlearned. As in its published code, prompts and few-shot examples are those of the harness's
tasks, without a chat template unless it is asked for, and start with the beginning-of-sequence
token.
"""

from __future__ import annotations

import contextlib
import copy
import difflib
import io
import logging
import random
import re
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from closer_look.errors import InputError

if TYPE_CHECKING:
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager
    from lm_eval.tasks.manager import TaskDict
    from transformers import PreTrainedModel

    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.evaluation import DownstreamParameters

# The harness parses 14 000 files to index its tasks, which takes seconds; for names this suffices.
TASK_NAME = re.compile(
    rb"""^["']?(?:task|group)["']?[ \t]*:[ \t]*["']?([^\s"'\[{#]+)""", re.MULTILINE
)


def check_harness(tasks: Iterable[str], include_path: str | None) -> None:
    """Check that lm-eval is installed and knows the tasks, without network and without loading it.

    Args:
        tasks: names of tasks or groups of tasks.
        include_path: folder with the user's own task descriptions (YAML).

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


def evaluate_downstream(
    language_model: LanguageModel, parameters: DownstreamParameters
) -> pd.DataFrame:
    """Measure a model's general abilities.

    Each task is evaluated alone, so its values do not depend on the other tasks. Each is first
    tried with one question, so that faults appear before the long work begins. Few-shot examples
    are drawn with the harness's own seed. If a prompt is longer than the model's context, the
    harness cuts it on the left and warns.

    Args:
        language_model: evaluated in memory, on its device, and left unchanged.
        parameters: the tasks, and the metric to report for each.

    Returns:
        A row for each task or group in the order given: ``task``, ``metric`` (as lm-eval writes
        it), ``value``, ``standard_error`` (missing for a single question), ``n_questions`` and
        ``n_few_shot`` (missing if the tasks of a group differ).

    Raises:
        InputError: a task's questions cannot be loaded, the task does not give the metric or has
            too few few-shot examples, or the model's context has no room for its answers.
    """
    from lm_eval.models.huggingface import HFLM

    model = language_model.model
    tokenizer = copy.deepcopy(language_model.tokenizer)  # the harness may set a padding token
    # Do not warn of long prompts: the harness does, and cuts them.
    tokenizer.deprecation_warnings["sequence-length-is-longer-than-the-specified-maximum"] = True
    with _left_as_it_was(model):
        with _quiet(progress=False):
            lm = HFLM(
                pretrained=model,
                tokenizer=tokenizer,
                add_bos_token=True if tokenizer.bos_token else None,
                batch_size=parameters.batch_size,
            )
            manager = _task_manager(parameters)
            loaded = {task: _load(manager, task) for task in parameters.tasks}
            for task, metric in parameters.tasks.items():
                _measure(lm, task, loaded[task], metric, parameters, limit=1)
        with _quiet(progress=sys.stderr.isatty()), _first_warnings():
            rows = [
                _measure(lm, task, loaded[task], metric, parameters, parameters.limit)
                for task, metric in parameters.tasks.items()
            ]
    return pd.DataFrame(rows).astype({"n_few_shot": "Int64"})


def _task_manager(parameters: DownstreamParameters) -> TaskManager:
    """Index the tasks: those of the folder if they suffice, for the harness's take seconds."""
    from lm_eval.tasks import TaskManager

    own = TaskManager(include_path=parameters.include_path, include_defaults=False)
    if parameters.tasks.keys() <= set(own.all_subtasks):
        return own
    return TaskManager(include_path=parameters.include_path)


def _load(manager: TaskManager, task: str) -> TaskDict:
    from datasets.exceptions import DatasetsError

    _seed()
    try:
        return manager.load([task])
    except (OSError, ValueError, KeyError, ImportError, DatasetsError) as error:
        first_line = str(error).strip().partition("\n")[0]
        raise InputError(
            f"parameter downstream.tasks: the questions of '{task}' cannot be loaded "
            f"({type(error).__name__}: {first_line}); connect to the hub, or put a task of that "
            f"name with local data into the folder downstream.include_path"
        ) from None


def _measure(
    lm: HFLM,
    task: str,
    loaded: TaskDict,
    metric: str,
    parameters: DownstreamParameters,
    limit: int | None,
) -> dict[str, Any]:
    import lm_eval
    from lm_eval.defaults import DEFAULT_OTHER_SEED

    _seed()
    for part in loaded["tasks"].values():
        part.set_fewshot_seed(DEFAULT_OTHER_SEED)
    try:
        results = lm_eval.evaluate(
            lm,
            loaded,
            limit=limit,
            log_samples=False,
            apply_chat_template=parameters.chat_template,
            fewshot_as_multiturn=parameters.chat_template,
        )
    except (AssertionError, ValueError) as error:  # raised when a task does not fit the model
        raise InputError(
            f"parameter downstream.tasks: '{task}' cannot run with this model ({error})"
        ) from None
    values = results["results"][task]
    metrics = [name for name in values if "," in name and "_stderr," not in name]
    if metric not in metrics:
        given = f"only {' and '.join(metrics)}" if metrics else "nor any other; name its tasks"
        raise InputError(f"parameter downstream.tasks: '{task}' has no '{metric}', {given}")
    shots = {results["n-shot"][part] or 0 for part in loaded["tasks"]}
    return {
        "task": task,
        "metric": metric,
        "value": values[metric],
        "standard_error": pd.to_numeric(values[metric.replace(",", "_stderr,")], errors="coerce"),
        "n_questions": values["sample_len"],
        "n_few_shot": shots.pop() if len(shots) == 1 else None,
    }


def _seed() -> None:
    """Seed as ``lm_eval`` does on the command line: tasks may shuffle choices or sample answers."""
    import numpy as np
    import torch
    from lm_eval.defaults import DEFAULT_OTHER_SEED, DEFAULT_RANDOM_SEED

    random.seed(DEFAULT_RANDOM_SEED)
    np.random.seed(DEFAULT_OTHER_SEED)
    torch.manual_seed(DEFAULT_OTHER_SEED)


@contextlib.contextmanager
def _left_as_it_was(model: PreTrainedModel) -> Iterator[None]:
    """Restore the model's mode and the random states afterwards."""
    import numpy as np
    import torch

    training, python_state, numpy_state = model.training, random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        model.train(training)
        random.setstate(python_state)
        np.random.set_state(numpy_state)


@contextlib.contextmanager
def _quiet(progress: bool) -> Iterator[None]:
    """Silence the harness, and its progress bars unless ``progress`` is true."""
    from datasets import config

    harness = logging.getLogger("lm_eval")
    level, counts = harness.level, config.HF_UPDATE_DOWNLOAD_COUNTS
    harness.setLevel(logging.ERROR)
    config.HF_UPDATE_DOWNLOAD_COUNTS = False  # it would use the network even for local data
    bars = contextlib.nullcontext() if progress else contextlib.redirect_stderr(io.StringIO())
    try:
        with bars:
            yield
    finally:
        harness.setLevel(level)
        config.HF_UPDATE_DOWNLOAD_COUNTS = counts


@contextlib.contextmanager
def _first_warnings() -> Iterator[None]:
    """Show one warning of each kind: the harness gives one for every prompt that it cuts."""
    places = set()

    def is_first(record: logging.LogRecord) -> bool:
        known = record.lineno in places
        places.add(record.lineno)
        return not known

    harness = logging.getLogger("lm_eval.models.huggingface")
    level = harness.level
    harness.setLevel(logging.WARNING)
    harness.addFilter(is_first)
    try:
        yield
    finally:
        harness.removeFilter(is_first)
        harness.setLevel(level)
