"""Runs of this machine that ended without a word, and how they are told from those that go on."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PID_FILE = "pid"


@contextlib.contextmanager
def alive(folder: Path) -> Iterator[None]:
    """Leave word in a run's folder that this process is running it, until it no longer is."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PID_FILE).write_text(str(os.getpid()))
    yield
    # Left in place by an error on purpose: the caller closes the run, or the next run does.
    (folder / PID_FILE).unlink()


def close_abandoned(home: Path) -> list[str]:
    """End the MLflow runs of pipeline runs whose process was killed.

    Returns:
        Their ids.
    """
    from headrace.tracking import close_pipeline

    closed = []
    for place in sorted((home / "runs").glob(f"*/{PID_FILE}")):
        if not _runs(int(place.read_text() or 0)):
            close_pipeline(place.parent.name, "KILLED")
            place.unlink()
            closed.append(place.parent.name)
    return closed


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return pid > 0
