"""Runs without any network: hub, telemetry and content networks are not asked, nor missed.

Every test of the suite runs so (``conftest.py``); here are those that show it.
"""

import socket
import urllib.request

import pytest


def test_other_machines_are_refused_and_noted(asked_hosts):
    with pytest.raises(OSError, match=r"example\.org was asked for"):
        urllib.request.urlopen("https://example.org")
    with pytest.raises(OSError, match=r"192\.0\.2\.1 was asked for"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert asked_hosts[0] == "example.org"
    asked_hosts.clear()


def test_a_run_asks_no_other_machine_even_where_it_may(root, run_without_network, tmp_path):
    parameters = f"data={tmp_path.as_posix()},experiment.methods=idk_ap"
    options = ["--env", "test", "--pipelines", "continual", "--params", parameters]
    done = run_without_network(root, *options)
    assert done.returncode == 0, done.stderr
    assert "Report: " in done.stdout
