"""Copies of a model in several processes share rows out, each on a device of its own.

They work on the machine of the process that asks, to which the model goes through a temporary file.
Each holds the whole model: one that fits on no device cannot be asked in this way.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from closer_look.errors import InputError, first_line
from closer_look.models.language_model import SPARE_BYTES
from closer_look.system.cluster import (
    check_workers,
    device_kind,
    this_machine,
    thread_variables,
)
from closer_look.system.memory import leave_device
from closer_look.system.progress import progress_bar

if TYPE_CHECKING:
    from ray import ObjectRef
    from transformers import PreTrainedModel

    from closer_look.models.language_model import LanguageModel


def on_replicas(
    function: Callable[..., pd.DataFrame],
    language_model: LanguageModel,
    columns: Mapping[str, Sequence[object]],
    *,
    parameter: str,
    n_workers: int,
    description: str,
    **options: object,
) -> pd.DataFrame:
    """Call a function on rows: here, or in several processes on a part of them each.

    Args:
        function: takes the model, the columns and the options, and returns a table with a row for
            each of theirs, which depends on that alone. Processes find it by its module and name.
        language_model: the model, which stays as it is.
        columns: argument of the function -> N values; equal ones of the first stay together.
        parameter: full name of the parameter with the number of workers, for messages.
        n_workers: number of processes; 1 for this one.
        description: one or two words about the work, for its progress.
        options: further arguments of the function.

    Returns:
        N rows in the order given.

    Raises:
        InputError: what the function raises; Ray, devices, or room for the model's temporary file
            are missing; or a process has died.
    """
    if n_workers == 1:
        return function(language_model, **columns, **options)
    check_workers(n_workers, parameter, this_machine())
    first = next(iter(columns.values()))
    order = sorted(range(len(first)), key=first.__getitem__)
    parts = [part.tolist() for part in np.array_split(np.array(order, dtype=int), n_workers)]
    n_threads = max(1, torch.get_num_threads() // n_workers)
    model, own_device = language_model.model, language_model.model.device
    with (
        tempfile.TemporaryDirectory() as folder,
        progress_bar(len(order), description, "answer") as progress,
    ):
        _check_room(model, folder, parameter)
        leave_device(model)
        torch.save(language_model, Path(folder, "model.pt"))
        started = {
            _start(
                n_threads,
                function,
                Path(folder, "model.pt"),
                options | {name: [column[i] for i in part] for name, column in columns.items()},
            ): part
            for part in parts
            if part
        }
        tables = []
        for table, part in _ended(started, description):
            tables.append(table.set_axis(part))
            progress.update(len(part))
    model.to(own_device)
    return pd.concat(tables).sort_index()


def _check_room(model: PreTrainedModel, folder: str, parameter: str) -> None:
    needed = sum(p.numel() * p.element_size() for p in model.parameters()) + SPARE_BYTES
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise InputError(
            f"parameter {parameter}: to share the model needs {needed / 2**20:,.0f} MB for a "
            f"temporary file, {Path(folder).parent} has {free / 2**20:,.0f} MB left; free some, "
            f"set TMPDIR to a folder on a larger disk, or {parameter}=1"
        )


def _start(n_threads: int, *arguments: object) -> ObjectRef:
    """Begin to work on a part of the rows; further arguments are those of ``_on_part``."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(
        **{f"num_{device_kind().lower()}s": 1},
        max_retries=0,
        runtime_env={"env_vars": thread_variables(n_threads)},
        scheduling_strategy=NodeAffinitySchedulingStrategy(this_machine(), soft=False),
    )(_on_part)
    return task.remote(*arguments)


def _ended(
    started: Mapping[ObjectRef, list[int]], description: str
) -> Iterator[tuple[pd.DataFrame, list[int]]]:
    """Yield the tables as they are made, each with its rows."""
    import ray

    left = list(started)
    while left:
        (ended, *_), left = ray.wait(left)
        try:
            yield ray.get(ended), started[ended]
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise InputError(error.cause.message) from None
            raise
        except ray.exceptions.RayError as error:
            raise InputError(
                f"{description}: a worker has ended ({type(error).__name__}: {first_line(error)}); "
                f"the same command with --only-missing-outputs goes on"
            ) from None


def _on_part(
    function: Callable[..., pd.DataFrame],
    path: Path,
    arguments: Mapping[str, object],
) -> pd.DataFrame:
    # Mapped: the processes share one copy of what stays on the CPU.
    language_model = torch.load(  # nosec B614: this run wrote it
        path, mmap=True, weights_only=False
    )
    device = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    language_model.model.to(device)
    return function(language_model, **arguments)
