"""Plant the faults of tests/planted_faults.yml one by one, and see that `make test` finds each.

    python tools/planted_faults.py [--before FOLDER]

Plants in the checkout that it lies in, runs the named tests without the slow ones, and restores.
Then it writes the table of tests/README.md. With FOLDER, a checkout of an earlier version, the
faults that are described for it are planted there, too. Exits with 1 where one is not found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
FAULTS = ROOT / "tests" / "planted_faults.yml"
README = ROOT / "tests" / "README.md"
BEGIN = "| fault | file | found by | found before |\n|---|---|---|---|\n"


def main() -> None:
    """Plant all faults, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path)
    options = parser.parse_args()
    lines, missed = [], []
    for fault in yaml.safe_load(FAULTS.read_text(encoding="utf-8")):
        found = plant(ROOT, fault, ["-m", "not slow"])
        before = fault.get("before", "")
        if isinstance(before, dict):
            earlier = fault | before
            before = plant(options.before, earlier, []) if options.before else ""
            missed += [] if before or not options.before else [earlier["fault"]]
        missed += [] if found else [fault["fault"]]
        cells = (fault["fault"], f"`{fault['file']}`", shown(found), shown(before))
        lines.append(f"| {' | '.join(cells)} |\n")
        print(lines[-1], end="", flush=True)
    text = README.read_text(encoding="utf-8")
    README.write_text(text[: text.index(BEGIN)] + BEGIN + "".join(lines), encoding="utf-8")
    if missed:
        sys.exit("not found: " + "; ".join(missed))


def plant(root: Path, fault: dict, options: list[str]) -> str:
    """Give the first test that fails with the fault; "" if none does."""
    path = root / fault["file"]
    text = path.read_text(encoding="utf-8")
    if fault["was"] not in text:
        raise ValueError(f"{path} has no {fault['was']!r}")
    path.write_text(text.replace(fault["was"], fault["now"]), encoding="utf-8")
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            [sys.executable, "-m", "pytest", "-x", "-q", *options, fault["tests"]],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        path.write_text(text, encoding="utf-8")
    failed = re.search(r"^(?:FAILED|ERROR) tests/([\w/.:]+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else ""


def shown(test: str) -> str:
    """As code, if it is a test."""
    return f"`{test}`" if "::" in test else test


if __name__ == "__main__":
    main()
