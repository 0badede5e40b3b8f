"""The page of an inspection: shown by notebooks and kedro-viz, and its path is logged."""

import logging

import pytest
from IPython.core.formatters import DisplayFormatter

from closer_look.datasets.inspection_dataset import InspectionDataset

PAGE = "<style>\na {}\n</style>\n<p>é</p>\n"


@pytest.fixture
def dataset(tmp_path):
    return InspectionDataset(filepath=(tmp_path / "inspection.html").as_posix())


def test_a_notebook_shows_the_page(dataset):
    dataset.save(PAGE)
    page = dataset.load()
    assert page == PAGE
    assert DisplayFormatter().format(page)[0]["text/html"] == PAGE


def test_its_path_is_logged(dataset, caplog, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    dataset.save(PAGE)
    assert caplog.messages == ["What would be trained, in colours: inspection.html"]


def test_a_preview_has_no_line_break(dataset):
    """Kedro-viz writes ``<br>`` for each, and a style with that is none."""
    dataset.save(PAGE)
    assert dataset.preview() == "<style> a {} </style> <p>é</p> "
