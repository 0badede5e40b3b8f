"""Runs without any network: hub, telemetry and content networks are not asked, nor missed.

Every test of the suite runs so (``conftest.py``); here are those that show it.
"""

import os
import socket
import subprocess
import sys
import urllib.request

import pytest

SWITCHES = ("HF_HUB_OFFLINE", "DO_NOT_TRACK")  # .telemetry and folders as models are enough


def test_other_machines_are_refused_and_noted(asked_hosts):
    with pytest.raises(OSError, match=r"example\.org was asked for"):
        urllib.request.urlopen("https://example.org")
    with pytest.raises(OSError, match=r"192\.0\.2\.1 was asked for"):
        socket.create_connection(("192.0.2.1", 80), timeout=1)
    assert asked_hosts[0] == "example.org"
    asked_hosts.clear()


def test_a_run_asks_no_other_machine_even_where_it_may(root, tmp_path):
    code = (
        "import socket, sys\n"
        "def refuse(*args, **kwargs):\n"
        "    print('asked for', args)\n"
        "    raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = refuse\n"
        "from kedro.framework.cli.cli import main\n"
        "sys.argv = ['kedro', *sys.argv[1:]]\n"
        "main()\n"
    )
    data = f"data={tmp_path.as_posix()},experiment.methods=idk_ap"
    run = ["run", "--env", "test", "--pipelines", "continual", "--params", data]
    environment = {k: v for k, v in os.environ.items() if k not in SWITCHES}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code, *run],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Report: " in done.stdout
    assert "asked for" not in done.stdout
