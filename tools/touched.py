"""List the slow tests of the files that a change touches, for the gate to run after `make test`.

    python tools/touched.py [BASE]

The change is the difference of HEAD from where it left BASE (default: origin/main). Without a
change the list is empty, and without a BASE in git, which is said.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable

SLOW = {  # test file -> seconds that its slow tests take on two cores
    "tests/test_documented_commands.py": 220,
    "tests/test_crashes.py": 90,
    "tests/erasure/test_kills.py": 90,
    "tests/test_environments.py": 40,
    "tests/test_notebooks.py": 75,
    "tests/test_own_data.py": 45,
    "tests/test_site.py": 30,
    "tests/test_viz.py": 40,
    "tests/test_bad_input.py": 20,
    "tests/evaluation/test_downstream.py": 12,
    "tests/inference/test_families.py": 30,
    "tests/project/test_ray_runner.py": 20,
    "tests/project/test_runner.py": 25,
    "tests/project/test_provenance.py": 30,
    "tests/reporting/test_report.py": 35,
    "tests/test_full_disk.py": 45,
    "tests/test_locale.py": 15,
    "tests/test_package.py": 25,
    "tests/pipelines/test_benchmark.py": 35,
    "tests/pipelines/test_export.py": 15,
    "tests/pipelines/test_plan.py": 33,
    "tests/pipelines/test_stress.py": 30,
    "tests/test_run.py": 15,
    "tests/test_s3.py": 60,
    "tests/test_readers.py": 20,
    "tests/training/test_processes.py": 20,
    "tests/training/test_workers.py": 45,
    "tests/training/test_needs.py": 30,
}
ALL = tuple(SLOW)
CRASHES, ENVIRONMENTS, VIZ = (
    "tests/test_crashes.py",
    "tests/test_environments.py",
    "tests/test_viz.py",
)
SITE, OWN_DATA, BAD_INPUT = (
    "tests/test_site.py",
    "tests/test_own_data.py",
    "tests/test_bad_input.py",
)
FULL_DISK, READERS = "tests/test_full_disk.py", "tests/test_readers.py"
S3 = "tests/test_s3.py"
FAMILIES, LOCALE = "tests/inference/test_families.py", "tests/test_locale.py"
DOCUMENTED, NOTEBOOKS = "tests/test_documented_commands.py", "tests/test_notebooks.py"
BENCHMARK = "tests/pipelines/test_benchmark.py"
PROVENANCE, RUN = "tests/project/test_provenance.py", "tests/test_run.py"
INSIDE_A_TRAINING = f"{CRASHES}::test_killed_inside_a_training"
PROCESSES, WORKERS = "tests/training/test_processes.py", "tests/training/test_workers.py"

TOUCHED = {  # beginning of a path -> its slow tests
    "README.md": (DOCUMENTED, SITE, NOTEBOOKS),
    "docs/": (DOCUMENTED, SITE, NOTEBOOKS),
    "notebooks/": (DOCUMENTED, SITE, NOTEBOOKS),
    "conf/": (VIZ, ENVIRONMENTS, CRASHES, DOCUMENTED, RUN, "tests/evaluation/test_downstream.py"),
    "src/": (SITE,),
    "src/closer_look/__main__": ("tests/test_package.py",),
    "src/closer_look/data/": (BAD_INPUT, OWN_DATA),
    "src/closer_look/datasets/": (VIZ, ENVIRONMENTS, CRASHES, FULL_DISK, READERS, LOCALE, S3),
    "src/closer_look/datasets/provenance": (PROVENANCE,),
    "src/closer_look/erasure/": ("tests/erasure/test_kills.py",),
    "src/closer_look/evaluation/attacks/": ("tests/pipelines/test_stress.py",),
    "src/closer_look/evaluation/study": (BENCHMARK,),
    "src/closer_look/evaluation/tuning": (BENCHMARK,),
    "src/closer_look/evaluation/": (OWN_DATA, "tests/evaluation/test_downstream.py"),
    "src/closer_look/losses/": (INSIDE_A_TRAINING,),
    "src/closer_look/inference/": (FAMILIES,),
    "src/closer_look/models/": (BAD_INPUT, OWN_DATA, FAMILIES),
    "src/closer_look/models/packing": (INSIDE_A_TRAINING,),
    "src/closer_look/parameters/": (BAD_INPUT,),
    "src/closer_look/pipelines/": (VIZ, ENVIRONMENTS, CRASHES, RUN),
    "src/closer_look/pipelines/benchmark": (BENCHMARK,),
    "src/closer_look/pipelines/scenarios": (BENCHMARK,),
    "src/closer_look/pipelines/export": ("tests/pipelines/test_export.py",),
    "src/closer_look/pipelines/plan": ("tests/pipelines/test_plan.py",),
    "src/closer_look/pipelines/stress": ("tests/pipelines/test_stress.py",),
    "src/closer_look/pipelines/tuning": (BENCHMARK,),
    "src/closer_look/project/": (VIZ, ENVIRONMENTS, CRASHES, FULL_DISK, PROVENANCE),
    "src/closer_look/project/ray": ("tests/project/test_ray_runner.py",),
    "src/closer_look/project/runner": ("tests/project/test_runner.py",),
    "src/closer_look/reporting/": (NOTEBOOKS, LOCALE, "tests/reporting/test_report.py"),
    "src/closer_look/reporting/inspection": (VIZ,),
    "src/closer_look/system/": (S3,),
    "src/closer_look/system/cluster": (WORKERS,),
    "src/closer_look/system/code": (PROVENANCE,),
    "src/closer_look/system/fingerprints": (PROVENANCE,),
    "src/closer_look/training/": (INSIDE_A_TRAINING, PROCESSES, WORKERS),
    "src/closer_look/training/needs": ("tests/training/test_needs.py",),
    "src/closer_look/system/tracing": ("tests/training/test_needs.py",),
    "constraints.txt": ALL,
    "pyproject.toml": ALL,
    "Makefile": ALL,
    ".ci/": ALL,
}
"""In addition, each slow test runs when its own file or a conftest.py above it changes."""


def main(base: str) -> None:
    """Print the tests, one per line."""
    print("\n".join(touched(changed_since(base))))


def changed_since(base: str) -> list[str]:
    """List the paths that differ from where HEAD left the base.

    If git has no such base, there are none, and a line on stderr says so.
    """
    done = subprocess.run(  # noqa: S603 - a fixed command
        ["git", "diff", "--name-only", f"{base}...HEAD"],  # noqa: S607
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        print(f"git has no {base} here: no slow tests are chosen", file=sys.stderr)
        return []
    return done.stdout.splitlines()


def touched(paths: Iterable[str]) -> list[str]:
    """List the slow tests of these paths, each once."""
    found = set()
    for path in paths:
        found |= {path} & SLOW.keys()
        if path.endswith("/conftest.py"):
            found |= {test for test in SLOW if test.startswith(path.removesuffix("conftest.py"))}
        for beginning, tests in TOUCHED.items():
            if path.startswith(beginning):
                found |= set(tests)
    return sorted(test for test in found if test.partition("::")[0] not in found - {test})


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "origin/main")
