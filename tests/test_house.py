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


TEXT = {"read_text": 0, "write_text": 1}  # where the encoding may stand without its name


def names_no_encoding(call):
    """Whether a call reads or writes text in the encoding of the locale."""
    named = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    is_given = any(keyword.arg == "encoding" for keyword in call.keywords)
    if named in TEXT:
        return not is_given and len(call.args) <= TEXT[named]
    modes = [one.value for one in (*call.args, *call.keywords) if isinstance(one, ast.Constant)]
    modes += [one.value.value for one in call.keywords if isinstance(one.value, ast.Constant)]
    is_binary = any(isinstance(mode, str) and "b" in mode for mode in modes)
    whose = ast.unparse(getattr(call.func, "value", call.func))
    is_text = whose not in ("os", "super()") and not (is_given or is_binary)
    return named == "open" and is_text


@pytest.mark.parametrize(
    ("call", "names_none"),
    [
        ("path.read_text()", True),
        ("path.write_text(x)", True),
        ("open(path)", True),
        ("path.open('w')", True),
        ("path.read_text('utf-8')", False),
        ("path.write_text(x, encoding='utf-8')", False),
        ("fsspec.open(path, mode='rb')", False),
        ("os.open(path, os.O_WRONLY)", False),
    ],
)
def test_call_without_an_encoding_is_told(call, names_none):
    assert names_no_encoding(ast.parse(call, mode="eval").body) == names_none


@pytest.mark.parametrize("folder", ["src", "tools", "benchmarks"])
def test_texts_are_in_utf8_whatever_the_locale(folder):
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and names_no_encoding(node)
    ]
    assert found == []


def test_every_room_is_on_the_architecture_page_and_in_the_contract():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = contracts["contracts"][0]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert layers["exhaustive"]
    named = {name.strip() for layer in layers["layers"] for name in layer.split("|")}
    assert {room.name for room in ROOMS} <= named
    assert [room.name for room in ROOMS if f"{room.name}/" not in page] == []
