"""Names of half-written files in folders that processes share."""

from pathlib import Path

from closer_look.system.processes import is_being_written, partial_of


def test_each_writer_has_a_name_of_its_own():
    """Also where another machine has the name of this one, and a process with this number."""
    first, second = partial_of(Path("key")), partial_of(Path("key"))
    assert first != second
    assert is_being_written(first)
