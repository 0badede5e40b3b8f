"""``tools/audit.py``: what pip-audit says, and what becomes of the gate."""

import json
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest

FAST = {"name": "fast", "version": "1.0"}
VULNERABLE = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["1.1"]}
NOTHING = "audit: no service of advisories could be reached; nothing was audited\n"


@pytest.fixture
def audit(root, monkeypatch):
    """Run the tool on what pip-audit is to print: standard output or error for each service."""
    tool = runpy.run_path(str(root / "tools" / "audit.py"))

    def audit(**printed):
        def answer(command, **options):
            said = printed[command[command.index("-s") + 1]]
            if isinstance(said, str):
                return SimpleNamespace(stdout="", stderr=said)
            return SimpleNamespace(stdout=json.dumps({"dependencies": said}), stderr="")

        monkeypatch.setattr(subprocess, "run", answer)
        tool["main"]("constraints.txt")

    audit.accepted = tool["ACCEPTED"]
    return audit


def test_packages_without_advisories_pass(audit, capsys):
    audit(pypi=[FAST | {"vulns": []}])
    assert capsys.readouterr().out == "audit: 1 packages audited\n"


def test_known_vulnerability_fails_with_its_package(audit):
    with pytest.raises(SystemExit) as ended:
        audit(pypi=[FAST | {"vulns": [VULNERABLE]}])
    assert ended.value.code == ("audit: known vulnerabilities\nfast 1.0: PYSEC-1, fixed in 1.1")


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_vulnerability_that_is_accepted_passes(audit, name):
    audit.accepted[name] = "the function is never called"
    audit(pypi=[FAST | {"vulns": [VULNERABLE]}])


def test_a_service_that_knows_no_package_has_audited_nothing(audit, capsys):
    """An index of one's own may answer for PyPI, and know no advisories: no clean bill."""
    skipped = [{"name": "fast", "skip_reason": "Dependency not found on PyPI"}]
    audit(pypi=skipped, osv="requests.exceptions.ConnectionError: Max retries exceeded")
    assert capsys.readouterr().out == NOTHING


def test_the_second_service_is_asked_where_the_first_is_not_there(audit, capsys):
    audit(pypi="ERROR: Could not connect to PyPI's feed", osv=[FAST | {"vulns": []}])
    assert capsys.readouterr().out == "audit: 1 packages audited\n"


@pytest.mark.parametrize(
    "fault",
    [
        "ERROR: Could not connect to PyPI's feed",
        "requests.exceptions.ProxyError: 403 Forbidden",
        "requests.exceptions.Timeout: the read timed out",
        "urllib3.exceptions.ReadTimeoutError: read timeout=15",
        "requests.exceptions.HTTPError: 503 Server Error: Service Unavailable",
    ],
)
def test_service_that_cannot_be_reached_fails_nothing(audit, capsys, fault):
    audit(pypi=fault, osv=fault)
    assert capsys.readouterr().out == NOTHING


def test_the_gate_audits_what_is_pinned(root, monkeypatch):
    assert "make audit" in (root / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    asked = []

    def answer(command, **options):
        asked.append(command[command.index("-r") + 1])
        packages = [{"name": "fast", "version": "1.0", "vulns": []}]
        return SimpleNamespace(stdout=json.dumps({"dependencies": packages}), stderr="")

    monkeypatch.setattr(subprocess, "run", answer)
    monkeypatch.setattr(sys, "argv", ["tools/audit.py"])
    runpy.run_path(str(root / "tools" / "audit.py"), run_name="__main__")
    assert asked == ["constraints.txt"]


def test_packages_that_were_not_audited_are_named(audit, capsys):
    skipped = {"name": "own", "skip_reason": "Dependency not found on PyPI"}
    audit(pypi=[FAST | {"vulns": []}, skipped])
    assert "pypi does not know own; these were not audited" in capsys.readouterr().out


def test_any_other_fault_fails(audit):
    with pytest.raises(SystemExit, match="No such file"):
        audit(pypi="ERROR: No such file: constraints.txt")


def test_without_a_network_one_line_says_so(root, tmp_path, monkeypatch):
    """pip-audit itself, behind a proxy that is not there."""
    pytest.importorskip("pip_audit", reason="pip-audit is not installed")
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PIP_CACHE_DIR", str(tmp_path))
    (tmp_path / "requirements.txt").write_text("click==8.1.7\n")
    done = subprocess.run(  # noqa: S603
        [sys.executable, root / "tools" / "audit.py", tmp_path / "requirements.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, NOTHING), done.stderr
