"""What a change touches is tested in the gate, and the gate keeps its time."""

import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOOL = runpy.run_path(ROOT / "tools" / "touched.py")
touched = TOOL["touched"]


@pytest.mark.parametrize(
    ("path", "tests"),
    [
        ("LICENSE", []),
        ("docs/start.md", ["test_documented_commands", "test_notebooks", "test_site"]),
        (
            "src/closer_look/losses/forget.py",
            ["test_crashes.py::test_killed_inside_a_training", "test_site"],
        ),
        (
            "src/closer_look/project/hooks.py",
            [
                "project/test_provenance",
                "test_crashes",
                "test_environments",
                "test_full_disk",
                "test_site",
                "test_viz",
            ],
        ),
        ("tests/erasure/conftest.py", ["erasure/test_kills"]),
        ("tools/kill_runs.py", []),
        ("tests/test_viz.py", ["test_viz"]),
    ],
)
def test_slow_tests_of_a_path(path, tests):
    expected = [f"tests/{test}" + ("" if "::" in test else ".py") for test in tests]
    assert touched([path]) == expected


ALL = ["constraints.txt", "pyproject.toml", "Makefile", ".ci/run", "tests/conftest.py"]


@pytest.mark.parametrize("path", ALL)
def test_what_all_depends_on_touches_all(path):
    assert touched([path, "src/closer_look/losses/forget.py"]) == sorted(TOOL["SLOW"])


def test_a_part_of_a_file_is_not_named_beside_the_file():
    paths = ["src/closer_look/losses/forget.py", "src/closer_look/project/hooks.py"]
    assert not [test for test in touched(paths) if "::" in test]


def test_every_file_with_slow_tests_is_known():
    files = [*(ROOT / "tests").rglob("test_*.py")]
    slow = {path for path in files if re.search(r"mark\.slow\b", path.read_text("utf-8"))}
    assert {path.relative_to(ROOT).as_posix() for path in slow} - {"tests/test_touched.py"} == set(
        TOOL["SLOW"]
    )


def test_every_file_with_slow_tests_is_chosen_by_what_it_is_about():
    chosen = {test for tests in TOOL["TOUCHED"].values() if tests != TOOL["ALL"] for test in tests}
    assert TOOL["SLOW"].keys() - {test.partition("::")[0] for test in chosen} == set()


def test_every_path_is_there():
    for beginning in TOOL["TOUCHED"]:
        path = ROOT / beginning
        assert path.exists() or [*path.parent.glob(f"{path.name}*")], beginning


def test_the_gate_does_not_take_longer_for_a_wide_change():
    """It installs, runs linters and `make test`; slow tests end after seven minutes."""
    assert "timeout 7m" in (ROOT / ".ci" / "run").read_text("utf-8")
    assert sum(TOOL["SLOW"].values()) < 20 * 60  # all of them, for `make test-all`


MAKE = """#!/bin/sh
[ "$1" = test-slow ] || exit 0
[ "$PYTEST_ADDOPTS" = --verbose ] && echo "$LINE"
exit $STATUS
"""
PASSED, FAILED, ERROR = (
    f"[gw0] [ 20%] {one} tests/a.py::b " for one in ("PASSED", "FAILED", "ERROR")
)
ENDED = 124  # what `timeout` returns


@pytest.mark.parametrize(
    ("line", "status", "passes"),
    [
        (PASSED, 0, True),
        (PASSED, ENDED, True),
        (FAILED, ENDED, False),
        (ERROR, ENDED, False),
        (FAILED, 2, False),
        (PASSED, 2, False),
    ],
)
def test_the_gate_forgives_what_has_not_run_and_nothing_that_failed(tmp_path, line, status, passes):
    made = {
        ".venv/bin/python": "#!/bin/sh\necho tests/a.py\n",
        "bin/make": MAKE,
        "bin/chromium": "",
    }
    for name, text in (made | {".ci/run": (ROOT / ".ci" / "run").read_text("utf-8")}).items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(0o755)
    places = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = os.environ | {"PATH": places, "LINE": line, "STATUS": str(status)}
    done = subprocess.run(  # noqa: S603
        [tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False
    )
    assert line in done.stdout
    assert (done.returncode == 0) == passes


def test_without_a_base_nothing_is_touched(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert TOOL["changed_since"]("origin/main") == []
    assert "git has no origin/main here: no slow tests are chosen" in capsys.readouterr().err
    git = ["git", "-c", "user.name=A", "-c", "user.email=a@b"]
    for command in (
        ["init", "-q"],
        ["commit", "-qm", "One", "--allow-empty"],
        ["tag", "base"],
    ):
        subprocess.run([*git, *command], check=True)  # noqa: S603
    assert TOOL["changed_since"]("origin/main") == TOOL["changed_since"]("base") == []
    (tmp_path / "README.md").touch()
    for command in (["add", "."], ["commit", "-qm", "Two"]):
        subprocess.run([*git, *command], check=True)  # noqa: S603
    capsys.readouterr()
    assert TOOL["changed_since"]("base") == ["README.md"]
    assert capsys.readouterr().err == ""
