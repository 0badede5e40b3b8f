"""Bars in a terminal; lines of log, and nothing else, where there is none."""

import logging

import pytest

from closer_look.system.progress import progress_bar


@pytest.fixture
def work(monkeypatch, caplog):
    """Work through 40 steps, each of so many seconds, and return the lines of the log."""

    def work(seconds):
        clock = {"now": 0.0}
        monkeypatch.setattr("tqdm.std.time", lambda: clock["now"])
        with (
            caplog.at_level(logging.INFO, logger="closer_look.system.progress"),
            progress_bar(40, "Unlearning", "step") as bar,
        ):
            for _ in range(40):
                clock["now"] += seconds
                bar.update()
        return [record.getMessage() for record in caplog.records]

    return work


def test_without_a_terminal_a_line_every_half_minute_and_one_at_the_end(work, capfd):
    lines = work(seconds=10)
    assert len(lines) == 14
    assert lines[0].startswith("Unlearning: 3 of 40 steps, ")
    assert lines[0].endswith("06:10 left")
    assert lines[-1].startswith("Unlearning: 40 of 40 steps, ")
    assert capfd.readouterr() == ("", "")


def test_short_work_needs_no_line(work, capfd):
    assert work(seconds=0.1) == []
    assert capfd.readouterr() == ("", "")


def test_in_a_terminal_one_bar_is_drawn(monkeypatch, caplog, capsys):
    import sys

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with (
        caplog.at_level(logging.INFO, logger="closer_look.system.progress"),
        progress_bar(3, "Scoring", "answer") as bar,
    ):
        bar.update(3)
    drawn = capsys.readouterr().err
    assert "Scoring: 100%" in drawn
    assert "3/3" in drawn
    assert caplog.records == []
