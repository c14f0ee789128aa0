"""Runs of this machine that ended without a word, and how they are told from those that go on."""

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path

ALIVE = "alive"
"""A file in a run's folder that its process keeps locked; the lock ends with the process, however that ends."""


@contextlib.contextmanager
def alive(folder: Path) -> Iterator[None]:
    """Hold a run's lock while it goes on; the file is gone once the run has been closed."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ALIVE).open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
        (folder / ALIVE).unlink(missing_ok=True)


def close_abandoned(home: Path) -> list[str]:
    """End the MLflow runs of pipeline runs whose process was killed.

    Returns:
        Their ids.
    """
    from headrace.tracking import close_pipeline

    closed = []
    for place in sorted((home / "runs").glob(f"*/{ALIVE}")):
        with contextlib.suppress(FileNotFoundError), place.open("r+") as found:
            if _held(found.fileno()):
                continue
            close_pipeline(place.parent.name, "KILLED")
            place.unlink(missing_ok=True)
            closed.append(place.parent.name)
    return closed


def _held(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False
