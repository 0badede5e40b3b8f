"""What the documents name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
REPRODUCTION = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
RELIABILITY = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
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
    [(REPRODUCTION.split("## All eleven")[0], 40), (RELIABILITY, 15)],
    ids=["reproduction", "reliability"],
)
def test_every_row_names_a_test(tables, n_rows):
    rows = [line for line in tables.splitlines() if re.match(r"\| \w", line)]
    rows = [row for row in rows if not row.startswith("| promise")]
    assert len(rows) > n_rows
    assert [row for row in rows if "test_" not in row.rsplit("|", 2)[1]] == []
