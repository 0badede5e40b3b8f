"""Write docs/licences.md, the licences of all pinned packages.

All of constraints.txt must be installed
(``pip install --constraint constraints.txt --editable '.[offline,dev,notebook,smollm2]'``).

    python tools/licences.py
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import Distribution, distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
MARK = "| package | licence |\n|---|---|\n"

ACCEPTED = {
    *("0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0"),
    *("CNRI-Python", "ISC", "LLVM-exception", "MIT", "MIT-0", "PSF-2.0", "Public domain", "Zlib"),
    *("LGPL", "MPL-2.0"),  # of libraries that are used as they are
}
NAMES = {
    "Apache Software License": "Apache-2.0",
    "Apache Software License (Apache 2.0)": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "Apache License, Version 2.0": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "The MIT License (MIT)": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Public Domain": "Public domain",
    "Python Software Foundation License": "PSF-2.0",
}
READ = {
    "cookiecutter": "BSD-3-Clause",
    "docutils": "Public domain AND BSD",
    "text-unidecode": "Artistic-1.0 OR GPL-2.0-or-later",
}
"""Licences read in the files of packages whose metadata says nothing or too much. The part of
docutils under the GPL is an Emacs mode, which is not installed."""
EXCEPTIONS = {"text-unidecode": "the Artistic licence is chosen"}


def normal(name: str) -> str:
    """Normalise a package's name as indexes do."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pinned() -> list[str]:
    """List the packages of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return sorted(normal(line.partition("==")[0]) for line in lines if "==" in line)


def installed() -> dict[str, Distribution]:
    """Return the installed packages by name."""
    return {normal(one.name): one for one in distributions()}


def licence(package: Distribution) -> str:
    """Return the licence in a package's metadata: an expression, classifiers, or a few words."""
    if normal(package.name) in READ:
        return READ[normal(package.name)]
    stated = package.metadata.get("License-Expression")
    if stated:
        return stated
    classifiers = package.metadata.get_all("Classifier") or []
    found = [one.rpartition(" :: ")[2] for one in classifiers if one.startswith("License ::")]
    found = found or [(package.metadata.get("License") or "not stated").partition("\n")[0]]
    return " OR ".join(sorted({NAMES.get(one, one) for one in found}))


def unaccepted(name: str, stated: str) -> set[str]:
    """Return the licences of a package that are not accepted."""
    if name in EXCEPTIONS:
        return set()
    return set(re.split(r" (?:AND|OR|WITH) ", stated.replace("(", "").replace(")", ""))) - ACCEPTED


def main() -> None:
    """Rewrite the table of docs/licences.md."""
    there = installed()
    missing = [name for name in pinned() if name not in there]
    if missing:
        sys.exit(f"not installed: {', '.join(missing)}")
    stated = {name: licence(there[name]) for name in pinned()}
    for name, text in stated.items():
        if unaccepted(name, text):
            sys.exit(f"{name}: {text} is not among the accepted licences")
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    rows = "".join(f"| {name} | {text} |\n" for name, text in stated.items())
    PAGE.write_text(head + MARK + rows, encoding="utf-8")


if __name__ == "__main__":
    main()
