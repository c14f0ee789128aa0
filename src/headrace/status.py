"""What a running task tells the runner that started it, through a small file beside its log.

The runner names the file in `HEADRACE_STATUS`; without it every call is a no-op, as on a cluster.
"""

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

from headrace import storage
from headrace.errors import HeadraceError, shown

STATUS = "HEADRACE_STATUS"
RUNNER = "HEADRACE_RUNNER_PID"
PAUSE_SECONDS = 0.2
"""Shortest time between two writes of mere progress."""

_said: dict[str, Any] = {}
_written = 0.0
_lock = threading.Lock()


def report(**facts: Any) -> None:
    """Merge `facts` into the task's status; mere progress is written at most every `PAUSE_SECONDS`.

    Known keys: `text`, `fraction`, `headline`, `digest`, `run_id`, `error`.
    """
    global _written
    urgent = not facts.keys() <= {"text", "fraction"}
    with _lock:
        _said.update(facts)
        place = os.environ.get(STATUS)
        if place and (urgent or time.monotonic() - _written >= PAUSE_SECONDS):
            _written = time.monotonic()
            storage.write_text(Path(place), json.dumps(_said), durable=False)


def fail(error: BaseException) -> None:
    """Report an error as its kind, its one line and the exit code it asks for."""
    known = isinstance(error, HeadraceError)
    message = str(error) if known else f"{type(error).__name__}: {error}".rstrip(": ")
    code = error.exit_code if isinstance(error, HeadraceError) else 1
    report(error={"message": shown(message), "exit_code": code, "known": known})


def read(path: Path) -> dict[str, Any]:
    """The status a task has last written; empty before its first word."""
    try:
        said: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    return said


def follow_runner() -> None:
    """End this process when the runner that started it is gone, so that no orphan writes on."""
    pid = int(os.environ.get(RUNNER, 0))
    if pid:
        threading.Thread(target=_watch, args=(pid,), daemon=True).start()


def _watch(pid: int) -> None:
    while _lives(pid):
        time.sleep(0.5)
    os._exit(1)


def _lives(pid: int) -> bool:
    """Whether our runner still runs: a zombie nobody has waited for does not, nor does another user's process."""
    try:
        os.kill(pid, 0)
        return not re.search(r"^State:\s+Z", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    except FileNotFoundError:  # this system has no /proc, or it is gone by now; the next look tells
        return True
    except (ProcessLookupError, PermissionError):
        return False
