"""The project's Kedro session, which reports faults of the input in one line, not a traceback."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Any

from kedro.config import MissingConfigException
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.io import DatasetError
from kedro.runner import AbstractRunner, ParallelRunner, SequentialRunner, ThreadRunner
from kedro.validation.exceptions import ParameterValidationError
from omegaconf.errors import OmegaConfBaseException

from closer_look.errors import InputError, first_line
from closer_look.project.hooks import ProvenanceHooks
from closer_look.project.node_patterns import expand
from closer_look.project.runner import ANEW, DepthFirstRunner

BENCHMARK = "benchmark"  # registered if its graph is not too large
MEASURE = "measure"  # registered if there are models to measure
NO_SPACE = os.strerror(errno.ENOSPC)
RESUMING = "with --only-missing-outputs"
REMOTE = ("botocore", "aiobotocore", "aiohttp")  # what errors of a bucket come from
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR)


class Session(KedroSession):
    """A KedroSession that raises ``InputError`` for faults of the input."""

    def run(
        self, *args: Any, runner: AbstractRunner | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        """Run as Kedro does, but depth first instead of in sequence.

        ``from_nodes`` may hold patterns, such as "continual.*.unlearn".

        Raises:
            InputError: a parameter or an input is at fault.
        """
        if runner is None or type(runner) is SequentialRunner:
            runner = DepthFirstRunner(is_async=runner is not None and runner._is_async)
        # Several nodes at once would be several models in one memory, and a GPU knows no fork.
        if isinstance(runner, ParallelRunner | ThreadRunner):
            raise InputError(
                f"--runner={type(runner).__name__}: a run makes one model after another; leave "
                f"--runner out, or share the nodes out with "
                f"--runner=closer_look.project.ray_runner.RayRunner"
            )
        if not args and not kwargs.get("pipeline_names"):
            kwargs["pipeline_names"] = ["__default__"]  # so that no others need to be built
        try:
            from_nodes = kwargs.get("from_nodes") or ()
            if any("*" in name for name in from_nodes):
                names = self._names_of_nodes(kwargs.get("pipeline_names") or ["__default__"])
                kwargs["from_nodes"] = expand(from_nodes, names)
            return super().run(*args, runner=runner, **kwargs)
        except ParameterValidationError as error:
            raise InputError("; ".join(_parameter_faults(str(error)))) from None
        except MissingConfigException as error:  # --env names no folder
            raise InputError(str(error)) from None
        except OmegaConfBaseException as error:  # a name that the catalog does not know
            raise InputError(f"configuration, {error.full_key}: {first_line(error)}") from None
        except Exception as error:
            pipelines.set_requested(None)  # a name may be that of any pipeline
            is_anew = not {*ANEW}.isdisjoint(kwargs.get("pipeline_names") or ())
            fault = (
                _find_missing_pipeline(error)
                or find_fault(error, "again" if is_anew else RESUMING)
                or _find_selection_error(error)
            )
            if fault is None:
                raise
            raise fault from None
        except KeyboardInterrupt:  # of which Kedro tells no hook
            self._unlock()
            raise
        finally:
            pipelines.set_requested(None)

    def _unlock(self) -> None:
        """Let others work on the run."""
        for hooks in self._hook_manager.get_plugins():
            if isinstance(hooks, ProvenanceHooks):
                hooks.on_pipeline_error()

    def _names_of_nodes(self, pipeline_names: Iterable[str]) -> list[str]:
        self.load_context()  # which builds the pipelines
        chosen = [pipelines[name] for name in pipeline_names if name in pipelines]
        return [node.name for pipeline in chosen for node in pipeline.nodes]


def find_fault(error: BaseException, resuming: str = RESUMING) -> InputError | None:
    """Find among an error's causes a fault of the input or of the storage.

    Args:
        error: that has ended the run.
        resuming: how the same command goes on.
    """
    return (
        _find_input_error(error)
        or _find_full_disk(error, resuming)
        or _find_forbidden(error)
        or _find_lost_storage(error, resuming)
    )


def _find_input_error(error: BaseException) -> InputError | None:
    """Find the error of a dataset among the causes: Kedro wraps it."""
    while not isinstance(error, InputError):
        cause = error.__cause__
        if cause is None:
            return None
        if isinstance(error, DatasetError) and isinstance(cause, FileNotFoundError):
            return InputError(f"{cause.filename or cause} is missing")
        error = cause
    return error


def _find_full_disk(error: BaseException, resuming: str) -> InputError | None:
    """Find a full disk among the causes; safetensors reports it only in the message."""
    for cause in _causes(error):
        if getattr(cause, "errno", None) == errno.ENOSPC or NO_SPACE in str(cause):
            return InputError(
                f"the disk is full; finished results are kept. Free some space, then run the same "
                f"command {resuming}"
            )
    return None


def _find_forbidden(error: BaseException) -> InputError | None:
    """Find among the causes a file or folder that may not be read or written."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in FORBIDDEN and cause.filename:
            return InputError(
                f"{cause.filename} cannot be used ({cause.strerror}); change who may use it, or "
                f"let the run write elsewhere: --params data=FOLDER"
            )
    return None


def _find_lost_storage(error: BaseException, resuming: str) -> InputError | None:
    """Find among the causes a bucket that could be used when the run began."""
    for cause in _causes(error):
        if type(cause).__module__.partition(".")[0] in REMOTE:
            return InputError(
                f"the storage cannot be used any more ({first_line(cause)}); finished results are "
                f"kept. When it can, run the same command {resuming}"
            )
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _find_missing_pipeline(error: BaseException) -> InputError | None:
    """Explain a name in --pipelines that stands for none."""
    missing = re.search(r"Failed to find the pipeline named '(.*?)'", str(error))
    if missing is None:
        return None
    if missing[1] == MEASURE:
        return InputError(
            f"'{MEASURE}' needs a model to measure, such as models.NAME.base_model=FOLDER"
        )
    if missing[1] == BENCHMARK:
        return InputError(
            f"'{BENCHMARK}' needs the parameters {BENCHMARK}, with so few methods and seeds that "
            f"the graph of all tasks is not too large"
        )
    known = ", ".join(sorted(pipelines))
    return InputError(f"no pipeline '{missing[1]}' in this environment, choose from {known}")


def _find_selection_error(error: BaseException) -> InputError | None:
    """Explain a selection (--nodes, --namespaces, --from-inputs, --tags, ...) that matches nothing.

    Names that are close to the unknown ones are suggested.
    """
    message = str(error)
    if not isinstance(error, ValueError) or not message.startswith("Pipeline "):
        return None
    unknown = re.findall(r"'(.*?)'", message)
    if not unknown:
        return InputError("no node matches all of --nodes, --tags, --namespaces, ...; drop one")
    known = set()
    for pipeline in pipelines.values():
        known |= pipeline.datasets() | {node.name for node in pipeline.nodes}
        known |= {prefix for node in pipeline.nodes for prefix in node.namespace_prefixes}
    close = [name for word in unknown for name in get_close_matches(word, known)]
    hint = (
        f"did you mean {', '.join(close)}?" if close else "kedro registry describe lists the nodes"
    )
    return InputError(f"nothing in the pipeline is named '{', '.join(unknown)}'; {hint}")


def _parameter_faults(report: str) -> list[str]:
    """Turn Kedro's report of faulty parameters into lines ``parameter GROUP: FAULT``."""
    found = re.findall(r"^- Parameter '(?:.*) for parameter '(.*?)': (.*)$", report, re.MULTILINE)
    return [f"parameter {group}: {fault}" for group, fault in found] or [" ".join(report.split())]
