"""Does the time of a request grow with those that were served before?

    python benchmarks/requests_growth.py [N]

It serves N requests (200) of two rows each on a model of one layer, trained and evaluated in
earnest, in one process, and prints the seconds per request over ten stretches.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from kedro.framework.startup import bootstrap_project

ROOT = Path(__file__).parents[1]
ERASURE = {"min_forget_efficacy": 0, "max_utility_loss": 1, "recheck_rows": 4}
PARAMETERS = {
    "experiment": {"n_tasks": 1},
    "forget_set": {"min_rouge": 0},
    "judges": {"entailment": None},
    "erasure": ERASURE,
}


def main(n_requests: int) -> None:
    """Serve the requests, and print what they took."""
    from closer_look.erasure.serving import Service
    from closer_look.project.session import Session

    bootstrap_project(ROOT)
    ends = []
    serve_group = Service._serve_group

    def timed(*arguments: object) -> None:
        serve_group(*arguments)
        ends.append(time.perf_counter())

    Service._serve_group = timed
    with tempfile.TemporaryDirectory() as data:
        folder = Path(data, "01_raw", "requests")
        folder.mkdir(parents=True)
        for number in range(n_requests):
            rows = [
                {"question": f"Who is person {number}, {word}?", "answer": f"A {word} of {number}."}
                for word in ("first", "second")
            ]
            request = {"request_id": f"r-{number:04d}", "received_at": "2026-03-01", "rows": rows}
            text = json.dumps(request | {"basis": "consent", "subjects": [f"Person {number}"]})
            (folder / f"r-{number:04d}.json").write_text(text, encoding="utf-8")
        for pipelines in (["forget_set", "finetuning"], ["erasure"]):
            parameters = {"data": data} | PARAMETERS
            with Session.create(ROOT, env="test", runtime_params=parameters) as session:
                session.run(pipeline_names=pipelines)
    stretch = max(1, n_requests // 10)
    for first in range(0, n_requests - stretch, stretch):
        seconds = (ends[first + stretch] - ends[first]) / stretch
        print(f"requests {first + 1:4d} to {first + stretch:4d}: {seconds:.3f} s each")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
