"""What the documents name is there."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REPRODUCTION = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
TEST = r"`((?:\w+/)?test_\w+\.py)(?:::(test_\w+))?`"
NAMED = sorted(set(re.findall(TEST, REPRODUCTION + RELIABILITY)))


@pytest.mark.parametrize(("file", "test"), NAMED)
def test_named_test_exists(file, test):
    text = (ROOT / "tests" / file).read_text(encoding="utf-8")
    assert not test or f"def {test}(" in text


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    links = re.findall(r"\]\((?!https?://)([^)#]+)", document.read_text(encoding="utf-8"))
    missing = [link for link in links if not (document.parent / link).exists()]
    assert missing == []


@pytest.mark.parametrize(
    ("tables", "n_rows"),
    [(REPRODUCTION.split("## All twenty-four")[0], 40), (RELIABILITY, 15)],
    ids=["reproduction", "reliability"],
)
def test_every_row_names_a_test(tables, n_rows):
    rows = [line for line in tables.splitlines() if re.match(r"\| \w", line)]
    rows = [row for row in rows if not row.startswith("| promise")]
    assert len(rows) > n_rows
    assert [row for row in rows if "test_" not in row.rsplit("|", 2)[1]] == []


def test_ten_questions_are_answered_by_paths_that_exist():
    rows = ARCHITECTURE.split("## Ten questions")[1].split("\n## ")[0].splitlines()
    answers = [row.split(" | ")[1] for row in rows if "? | " in row]
    paths = [re.match(r"`([^`]+)`", answer)[1] for answer in answers]
    assert len(paths) == 10
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_architecture_names_the_layers_of_the_contracts():
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    layers = linter["importlinter"]["contracts"][0]["layers"]
    assert "\n".join(layers) in ARCHITECTURE
