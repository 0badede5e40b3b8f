"""The report says where it is."""

import logging

from kedro.io import Version

from closer_look.datasets.report_dataset import ReportDataset


def test_the_path_is_logged_as_seen_from_here(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "out" / "report.html"
    dataset = ReportDataset(filepath=str(path), version=Version(None, "2026"))
    with caplog.at_level(logging.INFO, logger="closer_look.datasets.report_dataset"):
        dataset.save("<p>é")
    assert [record.getMessage() for record in caplog.records] == [
        "Report: out/report.html/2026/report.html"
    ]
    assert dataset.load() == "<p>é"
    assert (path / "2026" / "report.html").read_text("utf-8") == "<p>é"
