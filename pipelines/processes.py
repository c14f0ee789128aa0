"""The processes of one run's tasks: begun warm where they can be, ended together."""

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pipelines.warm import Component, WarmServer, WarmTask

GRACE_SECONDS = 30
"""What a cluster gives, too: training saves its last step in it."""

Process = subprocess.Popen[bytes] | WarmTask


class TaskProcesses:
    """What runs for one run of a pipeline; as a context, its server ends with it.

    Attributes:
        ending: Whether the run was told to end; nothing is to be started from then on.

    Args:
        log: Where the server of warm tasks complains.
    """

    def __init__(self, log: Path) -> None:
        self.ending = False
        self._log = log
        self._server: WarmServer | None = None
        self._running: set[Process] = set()
        self._lock = threading.RLock()  # a signal may reach the thread that holds it

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()

    @contextlib.contextmanager
    def running(self, command: list[str], log: Path, environment: Mapping[str, str]) -> Iterator[Process]:
        """Start one of KFP's commands, with its output added to `log`; whoever asked waits for it."""
        process = self._begin(command, log, environment)
        with self._lock:
            self._running.add(process)
        try:
            yield process
        finally:
            with self._lock:
                self._running.discard(process)

    def end(self) -> None:
        """Stop what still runs: first asking, then not."""
        self.ending = True
        with self._lock:
            running = list(self._running)
        for process in running:
            _signal(process, signal.SIGTERM)
        for process in running:
            if polled(process, GRACE_SECONDS) is None:
                _signal(process, signal.SIGKILL)

    def _begin(self, command: list[str], log: Path, environment: Mapping[str, str]) -> Process:
        """A fork of the server where KFP's command is the one that a fork can stand for."""
        if (component := Component.of(command)) is not None:
            with contextlib.suppress(OSError):  # somebody has killed the server: tasks begin cold
                return self._warm_server().start(component, log, environment)
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )

    def _warm_server(self) -> WarmServer:
        """The server of this run, which begins with the first task."""
        with self._lock:
            if self._server is None:
                self._server = WarmServer(self._log)
            return self._server


def polled(process: Process, seconds: float) -> int | None:
    """The exit code of `process`, waited for that long; None while it runs."""
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _signal(process: Process, sent: signal.Signals) -> None:
    """Reach a task and all it has started; the task alone in the moment before its session is its own."""
    with contextlib.suppress(ProcessLookupError):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            os.kill(process.pid, sent)
