"""Look up known vulnerabilities of the pinned packages with pip-audit.

Exits with 1 if a package has one that is not accepted here. If no advisory service can be reached,
it prints a line and exits with 0: such a machine installs from an index of its own.

    python tools/audit.py [REQUIREMENTS]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys

SERVICES = ("pypi", "osv")
ACCEPTED: dict[str, str] = {}
"""Advisory without a fix so far -> why it does no harm here."""
UNREACHABLE = re.compile("connect|proxy|timed? ?out|HTTPError", re.IGNORECASE)


def main(requirements: str) -> None:
    """Ask one service after another until one knows the packages, and report."""
    for service in SERVICES:
        packages = ask(service, requirements)
        known = [package for package in packages if "vulns" in package]
        if known:
            break
    else:
        print("audit: no service of advisories could be reached; nothing was audited")
        return
    skipped = [package["name"] for package in packages if "vulns" not in package]
    print(f"audit: {len(known)} packages audited")
    if skipped:
        print(f"audit: {service} does not know {', '.join(skipped)}; these were not audited")
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in "
        f"{', '.join(vulnerability['fix_versions']) or 'no version'}"
        for package in known
        for vulnerability in package["vulns"]
        if not ACCEPTED.keys() & {vulnerability["id"], *vulnerability["aliases"]}
    ]
    if found:
        sys.exit("audit: known vulnerabilities\n" + "\n".join(found))


def ask(service: str, requirements: str) -> list[dict]:
    """Return a service's report on each package; an empty list if it cannot be reached."""
    options = ["--no-deps", "--disable-pip", "--format=json", "--progress-spinner=off"]
    done = subprocess.run(  # noqa: S603 - a fixed command
        [sys.executable, "-m", "pip_audit", "-s", service, "-r", requirements, *options],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.stdout.startswith("{"):
        return json.loads(done.stdout)["dependencies"]
    fault = done.stderr.strip().rpartition("\n")[2]
    if not UNREACHABLE.search(fault):
        sys.exit(f"audit: {fault}")
    return []


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "constraints.txt")
