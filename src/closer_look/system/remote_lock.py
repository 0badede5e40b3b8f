"""The lock of a run whose artefacts are in a bucket.

Stores have no locks that end with a process. So each process that wants to work on a run writes an
object of its own, and works only if there is no other: whoever comes second sees the first, and of
two that come at the same moment, neither works. This needs no more of a store than that what is
written is listed at once, which holds for S3, Google Cloud Storage and Azure. The owner writes its
object anew at intervals; one that is no longer renewed, or whose owner was a process of this
machine that is dead, is deleted. Its times are those of the store's clock.
"""

from __future__ import annotations

import atexit
import json
import logging
import os
import signal
import socket
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import psutil

from closer_look.errors import InputError
from closer_look.system.processes import here
from closer_look.system.storage import name_of, opened, usable

BEAT_SECONDS = 30
STALE_SECONDS = 120
SAME_START_SECONDS = 5
SECONDS_TO_STOP = 10  # for a process that has lost its lock, after each signal

log = logging.getLogger(__name__)


class RemoteLock:
    """The lock of a run, from its creation to ``release``."""

    def __init__(self, url: str) -> None:
        """Acquire the lock.

        Args:
            url: of the folder of the run's reports, which holds the objects.

        Raises:
            InputError: another process holds it, or the URL cannot be used.
        """
        self.run = name_of(url)
        self.filesystem, folder = opened(f"{url}/run.lock")
        self.path = f"{folder}/{uuid4().hex}.json"
        self.owner = {
            "host": socket.gethostname(),
            "here": here(),
            "process": os.getpid(),
            "started": _started(os.getpid()),
            "since": datetime.now(UTC).isoformat(" ", "seconds"),
        }
        self._released = Event()
        with usable(url):
            self._write()
        try:
            with usable(url):
                self._check_others(folder)
        except BaseException:
            self.filesystem.rm_file(self.path)
            raise
        atexit.register(self.release)  # also after an interrupt
        self._thread = Thread(target=self._renew, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        self.filesystem.pipe_file(self.path, json.dumps(self.owner).encode())

    def _check_others(self, folder: str) -> None:
        now = self.filesystem.modified(self.path)
        for path in self.filesystem.ls(folder, detail=False):
            if path == self.path:
                continue
            with suppress(FileNotFoundError):  # released meanwhile
                owner = json.loads(self.filesystem.cat_file(path))
                silent = (now - self.filesystem.modified(path)).total_seconds()
                if silent < STALE_SECONDS and not _is_dead(owner):
                    raise InputError(
                        f"another process is working on run '{self.run}' (process "
                        f"{owner['process']} of {owner['host']}, since {owner['since']}); wait "
                        f"until it has ended, or give this run another name: --params run=NAME"
                    )
                log.warning(
                    "Run '%s' is taken over from process %s of %s, which has died",
                    self.run,
                    owner["process"],
                    owner["host"],
                )
                self.filesystem.rm_file(path)

    def _renew(self) -> None:
        while not self._released.wait(BEAT_SECONDS):
            try:
                if not self.filesystem.exists(self.path):
                    break
                self._write()
            except Exception as error:  # the next one may succeed
                log.debug("The lock of run '%s' was not renewed (%s)", self.run, error)
        if not self._released.is_set():
            log.error(
                "Run '%s' was taken over by another process, as this one was silent for %d "
                "seconds; it stops here",
                self.run,
                STALE_SECONDS,
            )
            self._stop()

    def _stop(self) -> None:
        """End this process, first by an interrupt, at last by force: a handler may swallow signals.

        An interrupt ends the main thread, also where it waits; what a script has started in the
        background ignores it.
        """
        ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
        me = psutil.Process()
        for end in (partial(os.kill, me.pid, signal.SIGINT), me.terminate, me.kill)[ignored:]:
            end()
            if self._released.wait(SECONDS_TO_STOP):
                return

    def release(self, force: bool = False) -> None:
        """Let others work on the run.

        Args:
            force: whether to release a lock that was acquired several times; it never was.
        """
        if self._released.is_set():
            return
        self._released.set()
        self._thread.join()
        atexit.unregister(self.release)
        try:
            self.filesystem.rm_file(self.path)
        except Exception as error:  # that would hide why the run has ended
            log.warning(
                "The lock of run '%s' stays for %d seconds (%s)", self.run, STALE_SECONDS, error
            )


def _is_dead(owner: dict[str, Any]) -> bool:
    """Return whether the owner was a process of this machine that has ended."""
    if owner.get("here") != here():  # its numbers of processes are others
        return False
    try:
        return abs(_started(owner["process"]) - owner["started"]) > SAME_START_SECONDS
    except psutil.NoSuchProcess:
        return True


def _started(process: int) -> float:
    """Return when a process was started: in seconds since the machine was, as clocks are set."""
    return psutil.Process(process).create_time() - psutil.boot_time()
