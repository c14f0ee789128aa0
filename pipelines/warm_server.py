"""The process that tasks are forked from: it imports what they need, and forks when the runner asks."""

import contextlib
import importlib
import json
import multiprocessing
import os
import select
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

IMPORTED = ("kfp.dsl.executor_main", "mlflow", "mlflow.store.tracking.sqlalchemy_store", "headrace.tracking")
"""What every task imports."""
WANTED = ("torch",)
"""What many do, and the first ones do not: imported while nobody asks."""


def serve(runner: socket.socket) -> None:
    """Fork a task for each message until the runner is gone."""
    os.environ["_KFP_RUNTIME"] = "true"  # as KFP's command sets it: its compiler stays out
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    for name in IMPORTED:
        _import(name)
    wanted = list(WANTED)
    while True:
        if wanted and not select.select([runner], [], [], 0)[0]:
            _import(wanted.pop(0))
            continue
        message, passed, *_ = socket.recv_fds(runner, 1, 2)
        if not message:
            return
        if os.fork() == 0:
            runner.close()
            _keep(socket.socket(fileno=passed[0]), passed[1])
        for fd in passed:
            os.close(fd)


def _import(name: str) -> None:
    """Import a module that tasks will want; what it lacks here, they will say themselves."""
    with contextlib.suppress(ImportError):
        if name == "mlflow":
            importlib.import_module("headrace.mlflow_server").set_defaults()
        importlib.import_module(name)


def _keep(asked: socket.socket, log: int) -> None:
    """Fork the task, tell the runner its number and then its exit code, and end."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Ends without taking three thousand modules apart, which costs a second.
    task = multiprocessing.get_context("fork").Process(target=_become, args=(asked, log))
    task.start()
    os.close(log)
    with contextlib.suppress(BrokenPipeError):  # the runner is gone, and its tasks notice by themselves
        asked.sendall(b"%d\n" % task.pid)
        task.join()
        asked.sendall(b"%d\n" % task.exitcode)
    os._exit(0)


def _become(asked: socket.socket, log: int) -> None:
    """Be the task."""
    os.setsid()  # whoever ends the task ends what it has started
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    told: dict[str, Any] = json.loads(_all(asked))
    asked.close()
    os.chdir(told["directory"])
    os.environ.clear()
    os.environ.update(told["environment"])
    _execute(told["source"], told["arguments"])


def _all(pipe: socket.socket) -> bytes:
    return b"".join(iter(lambda: pipe.recv(2**16), b""))


def _execute(source: str, arguments: list[str]) -> None:
    """Do what KFP's script does in a fresh process."""
    os.environ["_KFP_RUNTIME"] = "true"
    from kfp.dsl import executor_main

    with tempfile.TemporaryDirectory() as folder:
        module = Path(folder, "ephemeral_component.py")
        module.write_text(source)
        sys.argv = [executor_main.__file__, "--component_module_path", str(module), *arguments]
        executor_main.executor_main()


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as runner:
        serve(runner)
