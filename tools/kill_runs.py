"""Kill a run at random moments, again and again, and count lost and doubled work.

    python tools/kill_runs.py [--kills 100] [--seed N] [--env test] [--data FOLDER]

First a run goes undisturbed. Then the same run is started in another folder, killed with SIGKILL at
a random moment, and taken up with --only-missing-outputs, until it comes to its end; then anew,
until all kills are done. Every other kill waits from its moment for a node that begins to save, so
that files are cut off, too. Each run that ends is compared with the undisturbed one, to the last
digit. Exits with 1 if work was lost or a resume refused, or if something half-written is left.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIPELINE = "continual"
TABLES = ("summary_table", "summary", "metrics", "answers", "training_logs", "fingerprints")
TRAINING = {"epochs": 2, "checkpoint_minutes": 1e-9}  # checkpoints are written, and cut off, too
PARAMETERS = {
    "experiment": {"methods": ["ga_kl", "idk_ap"], "n_tasks": 2},
    "finetuning": TRAINING,
    "unlearning": TRAINING,
}
LEFT = ("*.partial", "*.replaced", "*.checkpoints")
SAVING_SECONDS = 0.03  # most nodes save for less

PROCESSES = multiprocessing.get_context("forkserver")  # one server imports for all of them
PROCESSES.set_forkserver_preload(
    [
        *("closer_look.pipeline_registry", "closer_look.training.trainer"),
        *("closer_look.reporting.figures", "kedro_datasets.plotly", "sentence_transformers"),
    ]
)


def main() -> None:
    """Kill, compare and count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--env", default="test")
    parser.add_argument("--data", type=Path)
    options = parser.parse_args()
    seed = int.from_bytes(os.urandom(3)) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    # Killed processes release no semaphores; their server is not to warn of it.
    os.environ["PYTHONWARNINGS"] = "ignore::UserWarning:multiprocessing.resource_tracker"
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.data or Path(temporary)).absolute()
        draw = random.Random(seed)  # noqa: S311  # nosec B311 - moments, no secrets
        counts = kill_runs(folder, options.env, options.kills, draw)
    print(closing_line(counts))
    if counts["wrong"] or counts["refused"] or counts["left over"]:
        sys.exit(1)


def kill_runs(folder: Path, env: str, n_kills: int, draw: random.Random) -> Counter[str]:
    """Kill runs in folders below ``folder`` as often as asked, and count what came of it."""
    data, counts = folder / "killed", Counter[str]()
    shutil.rmtree(folder / "undisturbed", ignore_errors=True)
    Attempt(folder / "undisturbed", env).end()  # the server's imports are not to be timed
    shutil.rmtree(folder / "undisturbed")
    began = time.monotonic()
    error = Attempt(folder / "undisturbed", env).end()
    seconds = time.monotonic() - began
    if error:
        sys.exit(f"the undisturbed run failed: {error}")
    expected = results(folder / "undisturbed", env)
    print(f"an undisturbed run takes {seconds:.0f} s", flush=True)
    shutil.rmtree(data, ignore_errors=True)
    while counts["kills"] < n_kills or data.exists():
        attempt = Attempt(data, env)
        if counts["kills"] < n_kills:
            more = draw.uniform(0, SAVING_SECONDS) if counts["kills"] % 2 else None
            if attempt.kill(draw.uniform(0, seconds), more):
                counts["kills"] += 1
                counts["as files were saved"] += is_saving(data)
                continue
        error = attempt.end()
        if error:
            counts["refused"] += 1
            print(f"refused: {error}", flush=True)
        else:
            count_completed(data, env, expected, counts)
        shutil.rmtree(data)
    return counts


def count_completed(data: Path, env: str, expected: dict[str, str], counts: Counter[str]) -> None:
    """Count what a run has lost, doubled and left, and print each of it."""
    counts["completed"] += 1
    found = results(data, env)
    wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
    again, left = doubled(data), left_over(data)
    counts["wrong"] += bool(wrong)
    counts["doubled"] += len(again)
    counts["left over"] += len(left)
    for what, names in (("wrong", wrong), ("ran again", again), ("left over", left)):
        if names:
            print(f"{what}: {', '.join(names)}", flush=True)
    print(f"{counts['kills']} kills, {counts['completed']} runs completed", flush=True)


class Attempt:
    """A run in a process and a process group of its own, which keeps what is there."""

    def __init__(self, data: Path, env: str) -> None:
        """Start it."""
        self.data = data
        self.printed = data.with_name(f"{data.name}.log")
        data.mkdir(parents=True, exist_ok=True)
        self.process = PROCESSES.Process(target=run, args=(data, env, self.printed))
        self.process.start()

    def kill(self, seconds: float, more: float | None) -> bool:
        """Kill it after so many seconds, and where ``more`` is given, so long after it saves next.

        Returns:
            Whether it was still at work.
        """
        self.process.join(seconds)
        if more is not None:
            while self.process.exitcode is None and not is_saving(self.data):
                time.sleep(0.001)
            time.sleep(more)
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has ended, or is not yet a group of its own
            self.process.kill()
        self.process.join()
        return self.process.exitcode == -signal.SIGKILL

    def end(self) -> str:
        """Wait for its end; return the line of its error, "" if there is none."""
        self.process.join()
        if self.process.exitcode == 0:
            return ""
        return self.printed.read_text("utf-8").strip().splitlines()[-1]


def run(data: Path, env: str, printed: Path) -> None:
    """Run, in a process of its own, what ``kedro run --only-missing-outputs`` would."""
    os.setsid()
    with printed.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    from closer_look.errors import InputError

    try:
        with open_session(data, env) as session:
            session.run(pipeline_names=[PIPELINE], only_missing_outputs=True)
    except InputError as error:
        sys.exit(f"Error: {error}")


def open_session(data: Path, env: str):
    """Open a session of this project with its artefacts in a folder."""
    from kedro.framework.startup import bootstrap_project

    from closer_look.project.session import Session

    bootstrap_project(ROOT)
    parameters = PARAMETERS | {"data": data.as_posix()}
    return Session.create(ROOT, env=env, runtime_params=parameters)


def results(data: Path, env: str) -> dict[str, str]:
    """Hash all that must be equal: each table of results, and each file of a model."""
    with open_session(data, env) as session:
        catalog = session.load_context().catalog
        tables = {name: catalog.load(f"{PIPELINE}.{name}") for name in TABLES}
    contents = {name: table.to_json(double_precision=15).encode() for name, table in tables.items()}
    for path in (data / "06_models").rglob("*"):
        if path.is_file():
            contents[path.relative_to(data).as_posix()] = path.read_bytes()
    return {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}


def doubled(data: Path) -> list[str]:
    """List the nodes done more than once: a node gets a line when its outputs are there."""
    nodes = [line["node"] for path in data.rglob("node_costs.jsonl") for line in lines(path)]
    return sorted(node for node, times in Counter(nodes).items() if times > 1)


def left_over(data: Path) -> list[str]:
    """List what should not outlive a run."""
    found = [path for pattern in LEFT for path in data.rglob(pattern)]
    return sorted(path.relative_to(data).as_posix() for path in found)


def is_saving(data: Path) -> bool:
    """Tell if a node is at it: the last record says what it is about to save."""
    for path in data.glob("08_reporting/*/provenance.jsonl"):
        last = path.read_bytes().rpartition(b"\n")[2]
        return b'"before": ' in last and b'"outputs": ' not in last
    return False


def lines(path: Path) -> list[dict]:
    """Read the whole lines of a file; a kill may have cut one off."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def closing_line(counts: Counter[str]) -> str:
    """Say what was counted."""
    return (
        f"{counts['kills']} kills ({counts['as files were saved']} as files were saved), "
        f"{counts['completed']} runs completed: {counts['wrong']} with other results, "
        f"{counts['doubled']} nodes ran again, {counts['left over']} left-overs, "
        f"{counts['refused']} resumes refused"
    )


if __name__ == "__main__":
    main()
