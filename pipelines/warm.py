"""Tasks that begin with their imports done.

A small task spends most of its seconds importing KFP, MLflow and torch. Here a process of the runner's imports them
once a run, and each task is a fork of it that does what KFP's command would have done: a process with a session, an
environment, a log and an exit code of its own. On a cluster, where each task is a pod, KFP's command runs as it is.

Python's own fork server would import the runner's main module again in every task, beside KFP's small runtime, in
which a pipeline's definition cannot be imported.
"""

import json
import select
import shlex
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

LOST = 255
"""Exit code of a task whose keeper was killed before it could tell one."""

_KFP_SCRIPT = shlex.split(
    """program_path=$(mktemp -d) printf "%s" "$0" > "$program_path/ephemeral_component.py"
    _KFP_RUNTIME=true python3 -m kfp.dsl.executor_main --component_module_path
    "$program_path/ephemeral_component.py" "$@" """
)
"""KFP 2's script for a lightweight component, word by word."""


@dataclass(frozen=True)
class Component:
    """What KFP's command for a lightweight component does: write `source` to a file and execute it.

    Attributes:
        source: The component's module.
        arguments: Of `kfp.dsl.executor_main`, all but the module's path.
    """

    source: str
    arguments: list[str]

    @classmethod
    def of(cls, command: Sequence[str]) -> Self | None:
        """Read KFP's command; None where it does anything else, such as installing packages first."""
        match command:
            case ["sh", "-ec", script, source, *arguments]:
                words = shlex.split(script.replace(sys.executable, "python3"))
                return cls(source, arguments) if words == _KFP_SCRIPT else None
        return None


class WarmTask:
    """A task that is a fork, with as much of `subprocess.Popen` as a runner asks for.

    Raises:
        ConnectionResetError: The server has died before it could fork it.
    """

    def __init__(self, told: socket.socket) -> None:
        self._told = told
        self._code: int | None = None
        self._lock = threading.RLock()  # a signal may reach the thread that holds it, and asks too
        pid = self._number()
        if pid is None:
            raise ConnectionResetError("The server is gone.")
        self.pid = pid

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, negative where a signal ended it, `LOST` where nobody is left to tell.

        Raises:
            subprocess.TimeoutExpired: It runs on after `timeout` seconds.
        """
        with self._lock:
            if self._code is None:
                if not select.select([self._told], [], [], timeout)[0]:
                    raise subprocess.TimeoutExpired("task", timeout or 0)
                code = self._number()
                self._code = LOST if code is None else code
                self._told.close()
            return self._code

    def _number(self) -> int | None:
        """The next number that the task's keeper tells; None where it is gone."""
        line = b""
        while not line.endswith(b"\n"):
            if not (byte := self._told.recv(1)):
                return None
            line += byte
        return int(line)


class WarmServer:
    """The process that tasks are forked from; it ends with whoever made it.

    Args:
        log: Where what it says is appended, which is nothing but what imports complain of.
    """

    def __init__(self, log: Path) -> None:
        self._ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipelines.warm_server", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # A terminal's Ctrl-C, and `timeout`, signal all that the runner has started. While tasks save their
                # work, this has to live on.
                start_new_session=True,
            )

    def start(self, component: Component, log: Path, environment: Mapping[str, str]) -> WarmTask:
        """Begin a task in the current directory.

        Args:
            component: What it runs.
            log: Where its output is appended.
            environment: All of its environment.

        Raises:
            OSError: The server is gone.
        """
        asked = {"source": component.source, "arguments": component.arguments, "directory": str(Path.cwd())}
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            socket.send_fds(self._ours, [b"\n"], [theirs.fileno(), output.fileno()])
            theirs.close()
            ours.sendall(json.dumps(asked | {"environment": dict(environment)}).encode())
            ours.shutdown(socket.SHUT_WR)
        return WarmTask(ours)

    def close(self) -> None:
        """End the server; tasks that still run go on."""
        self._ours.close()
        self.process.kill()
        self.process.wait()
