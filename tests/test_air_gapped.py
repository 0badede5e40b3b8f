"""Runs without any network: hub, telemetry and content networks are not asked, nor missed.

Every test of the suite runs so (``conftest.py``); here are those that show it.
"""

import socket
import urllib.request

import pytest

pytest_plugins = ["pytester"]


@pytest.mark.parametrize(
    ("ask", "host"),
    [
        (lambda _: urllib.request.urlopen("https://example.org"), "example.org"),
        (lambda _: socket.gethostbyname("example.org"), "example.org"),
        (lambda tried: tried.connect(("192.0.2.1", 80)), "192.0.2.1"),
        (lambda tried: tried.connect_ex(("192.0.2.1", 80)), "192.0.2.1"),
    ],
)
def test_other_machines_are_refused_and_noted(asked_hosts, ask, host):
    with socket.socket() as tried, pytest.raises(OSError, match=f"{host} was asked for"):
        tried.settimeout(1)
        ask(tried)
    assert asked_hosts == [host]
    asked_hosts.clear()


def test_a_test_fails_that_asks_another_machine_though_it_goes_on(root, pytester):
    pytester.makeconftest((root / "tests" / "conftest.py").read_text(encoding="utf-8"))
    pytester.makepyfile(
        """
        import contextlib
        import socket


        def test_that_asks():
            with contextlib.suppress(OSError):
                socket.create_connection(("192.0.2.1", 80), timeout=1)


        def test_that_asks_nobody():
            socket.getaddrinfo("localhost", 80)
        """
    )
    result = pytester.runpytest_inprocess()
    result.assert_outcomes(passed=2, errors=1)
    assert "assert ['192.0.2.1'] == []" in result.stdout.str()


def test_a_run_asks_no_other_machine_even_where_it_may(whole_run):
    """Its maker refuses its process all sockets, and fails where it asked for one."""
    assert "Report: " in whole_run.printed
