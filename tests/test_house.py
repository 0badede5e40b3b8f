"""The house is in order: small modules, rooms that re-export nothing, one tree for all."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "closer_look"
ROOMS = sorted(path.parent for path in SOURCE.glob("*/__init__.py"))
INTERFACES = ("losses", "metrics")  # whose functions others call as losses.npo, metrics.probability


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.name)
def test_no_module_is_long(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 350


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_room_says_what_it_is_and_exports_nothing(room):
    module = ast.parse((room / "__init__.py").read_text(encoding="utf-8"))
    assert ast.get_docstring(module)
    assert len(module.body) == 1 or room.name in INTERFACES


def test_every_room_is_on_the_architecture_page_and_in_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert layers["exhaustive"]
    named = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    assert {room.name for room in ROOMS} <= named
    assert [room.name for room in ROOMS if f"{room.name}/" not in page] == []
