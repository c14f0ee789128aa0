"""Checkpoints written in the background, one after another, while the run goes on."""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from headrace.checkpoints import Contents
from headrace.errors import UnavailableError, shown
from headrace.training.snapshots import Snapshot

TRIES = 3
"""How often a checkpoint is written before the run is told that it cannot be."""
PAUSE_SECONDS = 5.0
"""Between two tries: a disk that another process fills may be emptied by then."""

log = logging.getLogger(__name__)


class Written(NamedTuple):
    """A checkpoint that stands."""

    step: int
    seconds: float
    """From the first byte to the seal and the copy, in the background."""


class CheckpointWriter:
    """Writes snapshots in the order they were taken: one at a time, while at most one waits.

    Args:
        save: Seals contents where they can be resumed from, and leaves what stood before whole until they are.
        copy: Brings what was sealed to another place, where there is one.
    """

    def __init__(self, save: Callable[[Contents], Path], copy: Callable[[Path], None] | None = None) -> None:
        self._save, self._copy = save, copy
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._under_way: deque[tuple[Future[Written], Snapshot]] = deque()
        self._free: list[Snapshot] = []
        self._done: list[Written] = []

    def submit(self, contents: Contents) -> None:
        """Copy the contents and return; wait first where two are under way.

        Raises:
            UnavailableError: An earlier one could not be written.
        """
        self._settle(leave=1)
        snapshot = self._free.pop() if self._free else Snapshot()
        self._under_way.append((self._thread.submit(self._write, snapshot.of(contents)), snapshot))

    def finished(self) -> list[Written]:
        """What has been written since this was last asked.

        Raises:
            UnavailableError: One could not be written.
        """
        while self._under_way and self._under_way[0][0].done():
            self._settle(leave=len(self._under_way) - 1)
        done, self._done = self._done, []
        return done

    def drain(self) -> None:
        """Wait until nothing is under way.

        Raises:
            UnavailableError: One could not be written.
        """
        self._settle(leave=0)

    def write_now(self, contents: Contents) -> None:
        """Write the contents before anything that still waits, which is dropped for them.

        Raises:
            UnavailableError: They could not be written.
        """
        for future, _ in self._under_way:
            future.cancel()
        self.close()
        self._done.append(self._write(contents))

    def close(self) -> None:
        """Let what has begun end, whatever comes of it."""
        self._thread.shutdown()
        self._under_way.clear()

    def _settle(self, leave: int) -> None:
        while len(self._under_way) > leave:
            future, snapshot = self._under_way.popleft()
            self._done.append(future.result())
            self._free.append(snapshot)

    def _write(self, contents: Contents) -> Written:
        began = time.perf_counter()
        path = self._saved(contents)
        if self._copy is not None:
            self._copy(path)
        return Written(contents.facts.step, time.perf_counter() - began)

    def _saved(self, contents: Contents) -> Path:
        for _ in range(TRIES - 1):
            try:
                return self._save(contents)
            except Exception as error:
                log.warning("The checkpoint of step %d is tried again. %s", contents.facts.step, shown(str(error)))
                time.sleep(PAUSE_SECONDS)
        try:
            return self._save(contents)
        except Exception as error:
            raise UnavailableError(
                f"The checkpoint of step {contents.facts.step:,} could not be written in {TRIES} tries "
                f"({shown(str(error)).rstrip('.')}). The one before it stands: make room, and run the same again "
                "to go on from it."
            ) from error
