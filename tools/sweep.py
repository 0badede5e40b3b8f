"""Run the methods of a scenario in parallel processes, then report.

    python tools/sweep.py --jobs 2 --env tofu_small --pipeline continual --params run=sweep

What all methods share (rows, target model, its evaluation) runs first, in one process. Then each
process runs one method's namespace, with its share of the cores or with a GPU of its own. The
numbers are those of `kedro run`. Existing results are not computed again: after a crash, start the
same command again.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Parse the command line, run the shared stages, the methods and the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--env", default="base")
    parser.add_argument("--pipeline", default="continual")
    parser.add_argument("--params", default="")
    options = parser.parse_args()
    shared, methods, folder = look_up(options)
    with locked(folder):
        kedro(options, ["--pipelines", "forget_set,finetuning", "--only-missing-outputs"])
        namespaced = ["--pipelines", options.pipeline, "--namespaces", ",".join(shared)]
        kedro(options, [*namespaced, "--only-missing-outputs"])  # one may need the other's scores
        in_parallel(options, methods)
        kedro(options, ["--pipelines", options.pipeline, "--tags", "reporting"])


def look_up(options: argparse.Namespace) -> tuple[list[str], list[str], Path]:
    """Return the pipeline's shared namespaces, those of its methods, and the run's folder."""
    from kedro.framework.project import pipelines
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    from closer_look.project.experiment import load_experiment
    from closer_look.project.provenance import PROVENANCE

    bootstrap_project(ROOT)
    with KedroSession.create(ROOT, env=options.env, runtime_params=parameters(options)) as session:
        catalog = session.load_context().catalog
        methods = [f"{options.pipeline}.{method}" for method in load_experiment().methods]
        nodes = pipelines[options.pipeline].nodes
    second = {".".join(node.namespace.split(".")[:2]) for node in nodes if node.namespace}
    shared = sorted(second - {*methods, options.pipeline})
    return shared, methods, catalog[PROVENANCE].folder


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of the run in the ``with`` block."""
    from closer_look.errors import InputError
    from closer_look.system.run_lock import locked_for_children

    try:
        with locked_for_children(folder):
            yield
    except InputError as error:
        sys.exit(f"Error: {error}")


def parameters(options: argparse.Namespace) -> dict[str, object]:
    """Parse the option --params as ``kedro run`` does."""
    from omegaconf import OmegaConf

    listed = [item.strip() for item in options.params.split(",") if item.strip()]
    return OmegaConf.to_container(OmegaConf.from_dotlist(listed))


def in_parallel(options: argparse.Namespace, chosen: list[str]) -> None:
    """Run namespaces in parallel, as many at a time as there are jobs."""
    slots: Queue[int] = Queue()
    for slot in range(options.jobs):
        slots.put(slot)

    def run(namespace: str) -> None:
        slot = slots.get()
        try:
            what = ["--pipelines", options.pipeline, "--namespaces", namespace]
            kedro(options, [*what, "--only-missing-outputs"], slot)
        finally:
            slots.put(slot)

    with ThreadPoolExecutor(options.jobs) as pool:
        list(pool.map(run, chosen))


def kedro(options: argparse.Namespace, what: list[str], slot: int | None = None) -> None:
    """Run Kedro and print the time; if it fails, exit with its output."""
    command = [str(Path(sys.executable).with_name("kedro")), "run", "--env", options.env, *what]
    if options.params:
        command += ["--params", options.params]
    start = time.monotonic()
    finished = subprocess.run(  # noqa: S603
        command,
        cwd=ROOT,
        env=environment(options, slot),
        capture_output=True,
        text=True,
        check=False,
    )
    name = what[-2] if what[-1] == "--only-missing-outputs" else what[-1]
    if finished.returncode:
        sys.exit(f"{name} failed:\n{finished.stdout[-2000:]}{finished.stderr[-2000:]}")
    print(f"{name}: {time.monotonic() - start:.0f} s", flush=True)


def environment(options: argparse.Namespace, slot: int | None) -> dict[str, str]:
    """Return the environment of a process: the whole machine, or one job's share of it."""
    import torch

    if slot is None:
        return dict(os.environ)
    share = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // options.jobs))}
    if torch.cuda.is_available():
        share["CUDA_VISIBLE_DEVICES"] = str(slot % torch.cuda.device_count())
    return os.environ | share


if __name__ == "__main__":
    main()
