"""Several processes train one model: Ray Train starts them, and files carry the model to and fro.

The folder through which they go must be one that all machines of the cluster share, as the
checkpoints are. Every process runs the same function on the same arguments; ``processes`` and
``sharding`` say how they work together.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread, current_thread, main_thread
from typing import TYPE_CHECKING, Any

import pandas as pd
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file

from closer_look.errors import InputError, first_line
from closer_look.models import packing
from closer_look.system.cluster import check_workers, device_kind
from closer_look.system.memory import does_not_fit, leave_device
from closer_look.training.checkpoints import HANDED_OVER
from closer_look.training.processes import rank
from closer_look.training.sharding import OutOfMemory, trained_weights

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from closer_look.models.language_model import LanguageModel
    from closer_look.parameters.training import OptimiserParameters

TASK, WEIGHTS, LOG = "task.pt", "weights.safetensors", "log.parquet"
FAILURE, LINES = "failure.json", "lines"
FOLLOW_EVERY = 0.5  # seconds
RAISED = "UserExceptionWithTraceback"  # Ray Train's name for what the code in a worker raises
LEFT_ALONE = ("closed by peer", "reset by peer", "DistBackendError", "DistNetworkError")
"""Signs of errors in a worker that another one has left."""
TENSORBOARD = "TENSORBOARD_LOGGING_DIR"  # a variable of transformers
ABOUT_THE_GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "NODE_RANK")
"""Variables by which the Trainer would notice that it is not alone."""

log = logging.getLogger(__name__)


def on_workers(
    function: Callable[..., pd.DataFrame],
    language_model: LanguageModel,
    *arguments: object,
    parameters: OptimiserParameters,
    group: str,
    folder: Path | None,
) -> pd.DataFrame:
    """Call a function that trains a model in place: here, or in several processes at once.

    Args:
        function: takes the model, the arguments, and ``most_rows``, the largest number of rows of a
            pass; returns the training log. Of a module, so that processes find it by its name.
        language_model: changed in place.
        arguments: what else the function takes, which pickle can write.
        parameters: hold the number of workers; 1 for this process.
        group: name of these parameters, for messages.
        folder: of the training's checkpoints, on a disk that all machines share; None for a
            temporary folder of this machine.

    Returns:
        The training log.

    Raises:
        InputError: what the function raises; Ray or devices are missing; or a process has died.
    """
    n_workers, model = parameters.workers, language_model.model
    if n_workers == 1 or dist.is_initialized():
        return function(language_model, *arguments)
    check_sharing(model, parameters, group)
    own_device = model.device
    with _handed_over(folder) as shared:
        leave_device(model)
        torch.save((function, language_model, arguments, packing.proven), shared / TASK)
        most_rows = None
        while True:
            try:
                _run(shared, n_workers, most_rows)
                break
            except OutOfMemory as error:
                if error.n_rows == 1:
                    raise does_not_fit("a single row does", str(error), "") from None
                most_rows = error.n_rows // 2
                log.warning(
                    "out of memory with %s rows in a pass; all %s workers start again with %s",
                    *(error.n_rows, n_workers, most_rows),
                )
        trained = load_file(shared / WEIGHTS)
        with torch.no_grad():
            for name, weight in model.named_parameters():
                if name in trained:
                    weight.copy_(trained[name])
        model.to(own_device)
        return pd.read_parquet(shared / LOG)


def check_sharing(model: PreTrainedModel, parameters: OptimiserParameters, group: str) -> None:
    """Check that several processes can train a model, if they are to.

    Args:
        model: the model.
        parameters: hold the number of workers, and what each holds.
        group: name of these parameters, for messages.

    Raises:
        InputError: Ray or devices are missing, or quantised weights are to be shared out.
    """
    if parameters.workers == 1:
        return
    if parameters.sharding == "full" and getattr(model, "is_quantized", False):
        raise InputError(
            f"parameter {group}.sharding: the weights of {model.name_or_path} are quantised and "
            f"cannot be shared out; set it to none"
        )
    check_workers(parameters.workers, f"{group}.workers")


@contextmanager
def _handed_over(checkpoints: Path | None) -> Iterator[Path]:
    if checkpoints is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    folder = checkpoints.absolute() / HANDED_OVER
    shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(folder: Path, n_workers: int, most_rows: int | None) -> None:
    """Let Ray Train run ``_work`` in each of its processes."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchConfig, TorchTrainer

    class OwnDevice(TorchConfig().backend_cls):
        share_cuda_visible_devices = False

    class EachOnItsOwnDevice(TorchConfig):
        """Shows a worker its GPU alone: the Trainer computes on the first that it sees."""

        @property
        def backend_cls(self) -> type:
            return OwnDevice

    for name in (FAILURE, LINES):  # of an attempt before
        (folder / name).unlink(missing_ok=True)
    trainer = TorchTrainer(
        _work,
        train_loop_config={
            "folder": str(folder),
            "most_rows": most_rows,
            TENSORBOARD: os.environ.get(TENSORBOARD, str(folder)),
        },
        torch_config=EachOnItsOwnDevice(),
        scaling_config=ScalingConfig(num_workers=n_workers, use_gpu=device_kind() == "GPU"),
        run_config=RunConfig(
            name=f"ray-{most_rows}",
            storage_path=str(folder),
            failure_config=FailureConfig(max_failures=0),
        ),
    )
    with _followed(folder / LINES), _interrupted_as_ever():
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _reason(folder, error) from None


@contextmanager
def _interrupted_as_ever() -> Iterator[None]:
    """Let an interrupt raise ``KeyboardInterrupt`` inside the block and after it.

    Ray Train takes the signal over for good: it ends the workers and then, by ``SystemExit``, the
    process, as if all were done.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit:
        raise KeyboardInterrupt from None
    finally:
        if current_thread() is main_thread():  # in another, neither may set it
            signal.signal(signal.SIGINT, before)


def _reason(folder: Path, error: Exception) -> Exception:
    """Say why a training failed: in one line, unless its code did, which shows where."""
    if (folder / FAILURE).exists():
        failure = json.loads((folder / FAILURE).read_text(encoding="utf-8"))
        if failure["n_rows"] is not None:
            return OutOfMemory(failure["message"], failure["n_rows"])
        return InputError(failure["message"])
    failures: Mapping[int, Exception] = getattr(error, "worker_failures", {})
    if not failures:
        return InputError(f"the workers of the training did not start ({first_line(error)})")
    of_code = {n: one for n, one in failures.items() if type(one).__name__ == RAISED}
    left_alone = {n for n, one in of_code.items() if any(sign in str(one) for sign in LEFT_ALONE)}
    dead, faults = failures.keys() - of_code.keys(), of_code.keys() - left_alone
    if faults and not dead:
        return failures[min(faults)]
    number = min(dead or left_alone)
    how = first_line(failures[number]) if dead else "lost the others"
    return InputError(
        f"worker {number} of the training has ended ({how}); the same command with "
        f"--only-missing-outputs goes on from the last checkpoint"
    )


def _work(config: Mapping[str, Any]) -> None:
    """Train in one of the processes; the first of them writes what comes of it."""
    for name in ABOUT_THE_GROUP:
        os.environ.pop(name, None)
    os.environ[TENSORBOARD] = config[TENSORBOARD]
    folder = Path(config["folder"])
    if rank() == 0:
        _write_lines(folder / LINES)
    # Mapped: the processes of a machine hold one copy of what they do not change.
    function, language_model, arguments, proven = torch.load(  # nosec B614: this run wrote it
        folder / TASK, mmap=True, weights_only=False
    )
    packing.proven.update(proven)
    try:
        training_log = function(language_model, *arguments, most_rows=config["most_rows"])
        weights = trained_weights(language_model.model)
    except (InputError, OutOfMemory) as error:
        folder.mkdir(parents=True, exist_ok=True)
        text = {"message": first_line(error), "n_rows": getattr(error, "n_rows", None)}
        (folder / FAILURE).write_text(json.dumps(text), encoding="utf-8")
        raise
    if rank() == 0:
        save_file(weights, folder / WEIGHTS)
        training_log.to_parquet(folder / LOG)


def _write_lines(path: Path) -> None:
    """Write what the package logs in this process to a file, a JSON array a line."""

    class Lines(logging.FileHandler):
        def format(self, record: logging.LogRecord) -> str:
            return json.dumps([record.name, record.levelno, record.getMessage()])

    logger = logging.getLogger("closer_look")
    logger.addHandler(Lines(path, encoding="utf-8"))
    logger.setLevel(logging.INFO)


@contextmanager
def _followed(path: Path) -> Iterator[None]:
    """Log here, inside the block, what a process writes with ``_write_lines``."""
    ended = Event()
    path.touch()

    def follow() -> None:
        with path.open(encoding="utf-8") as lines:
            while True:
                is_last = ended.wait(FOLLOW_EVERY)
                for line in lines:
                    name, level, message = json.loads(line)
                    logging.getLogger(name).log(level, "%s", message)
                if is_last:
                    return

    thread = Thread(target=follow)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
