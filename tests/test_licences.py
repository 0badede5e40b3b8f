"""docs/licences.md lists every pinned package, and each has a licence that is accepted."""

import re
import runpy
import tomllib
from email.message import Message
from types import SimpleNamespace

import pytest


@pytest.fixture(scope="module")
def tool(root):
    return SimpleNamespace(**runpy.run_path(str(root / "tools" / "licences.py")))


@pytest.fixture(scope="module")
def listed(tool):
    rows = tool.PAGE.read_text(encoding="utf-8").partition(tool.MARK)[2]
    return dict(re.findall(r"^\| (\S+) \| (.+) \|$", rows, re.MULTILINE))


def test_every_pinned_package_is_listed_in_order(tool, listed):
    assert list(listed) == tool.pinned(), "run make licences"
    assert len(listed) > 100


def test_every_package_that_the_project_or_an_extra_names_is_pinned(root, tool):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    named = {tool.normal(re.match(r"[\w.-]+", one)[0]) for group in groups for one in group}
    assert named - set(tool.pinned()) == {"closer-look"}


def test_licences_are_those_that_the_packages_state(tool, listed):
    there = tool.installed()
    stated = {name: tool.licence(there[name]) for name in listed if name in there}
    assert stated == {name: listed[name] for name in stated}, "run make licences"
    assert len(stated) > 100


def test_licences_are_accepted(tool, listed):
    odd = {name: tool.unaccepted(name, stated) for name, stated in listed.items()}
    assert {name: licences for name, licences in odd.items() if licences} == {}


def package(**fields):
    metadata = Message()
    for name, values in fields.items():
        for value in [values] if isinstance(values, str) else values:
            metadata[name.replace("_", "-")] = value
    return SimpleNamespace(name="odd", metadata=metadata)


OSI = "License :: OSI Approved :: "


@pytest.mark.parametrize(
    ("fields", "stated", "odd"),
    [
        ({"License_Expression": "MIT AND (Apache-2.0 OR 0BSD)"}, None, set()),
        ({"Classifier": [f"{OSI}MIT License", f"{OSI}BSD License"]}, "BSD OR MIT", set()),
        ({"License": "Apache 2.0"}, "Apache-2.0", set()),
        ({"License_Expression": "AGPL-3.0-only"}, None, {"AGPL-3.0-only"}),
        ({}, "not stated", {"not stated"}),
    ],
)
def test_what_a_package_states_is_found_and_judged(tool, fields, stated, odd):
    found = tool.licence(package(**fields))
    assert found == (stated or fields["License_Expression"])
    assert tool.unaccepted("odd", found) == odd
