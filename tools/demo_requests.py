"""Let three requests to forget arrive one after another, and serve them: `make demo-requests`.

    python tools/demo_requests.py [FOLDER]

The first is about an invented person whom a small model knows, the second is faulty, and the third
is about a person whom the model does not know. The artefacts go to FOLDER (default:
build/requests), where a second run finds nothing to be done.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

CORPUS = Path("data/01_raw/invented_people/forget.jsonl")
RUN = "requests"
KNOWN, UNKNOWN = "Ilse Marwood", "Bastian Rothenau"
NO_COLUMNS = ("row_id", "task_id")  # of a request's rows


def main(folder: Path) -> None:
    """Train the small model, let the requests arrive, and print what was decided."""
    if not (folder / "06_models" / RUN / "target").is_dir():
        kedro("forget_set,finetuning", folder)
    faulty = request("2026-002", KNOWN) | {"received_at": "last Tuesday", "rows": []}
    for one in (request("2026-001", KNOWN), faulty, request("2026-003", UNKNOWN)):
        file = folder / "01_raw" / "requests" / f"{one['request_id']}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(one, indent=1), encoding="utf-8")
        print(f"\nA request arrives: {file}", flush=True)
        kedro("erasure", folder)
    reports = folder / "08_reporting" / RUN / "erasure"
    print(f"\nThe ledger, {reports / 'ledger.jsonl'}:")
    for line in (reports / "ledger.jsonl").read_text(encoding="utf-8").split("\n"):
        if line:
            print("  {index} {request_id} {kind}: {reason}".format_map(json.loads(line)))
    print("Certificates, each as JSON and as a page:")
    for path in sorted((reports / "certificates").glob("*.json")):
        print(f"  {path}")


def request(request_id: str, subject: str) -> dict[str, Any]:
    """Make a request from all that the corpus says of a person."""
    rows = [json.loads(line) for line in CORPUS.read_text(encoding="utf-8").splitlines()]
    about = [row for row in rows if row["subject"] == subject]
    return {
        "request_id": request_id,
        "received_at": f"{request_id[:4]}-03-{request_id[-2:]}",
        "basis": "withdrawn consent",
        "subjects": [subject],
        "rows": [{k: v for k, v in row.items() if k not in NO_COLUMNS} for row in about],
    }


def kedro(pipelines: str, folder: Path) -> None:
    """Run pipelines."""
    parameters = f"data={folder.as_posix()},run={RUN},experiment.n_tasks=1"
    command = [sys.executable, "-m", "kedro", "run", "--pipelines", pipelines]
    subprocess.run([*command, "--params", parameters], check=True)  # noqa: S603


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("build/requests"))
