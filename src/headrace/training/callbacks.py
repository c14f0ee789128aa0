"""What a run does beside computing, told after every step: metrics, the ledger and checkpoints.

Logs are in `logs.py`, and what a reader watches in `progress.py`.
"""

import time
from collections.abc import Callable, Mapping

from headrace.checkpoints import Contents
from headrace.data.ledger_writer import LedgerWriter
from headrace.data.loader import Provenance
from headrace.tracking import Tracker
from headrace.training.step import StepResult
from headrace.training.writer import CheckpointWriter


class Callback:
    """Something told of every finished step; this base class ignores it."""

    def after_step(self, result: StepResult) -> None:
        """A step was taken."""

    def close(self) -> None:
        """The run has ended, by itself or by an error."""


class Feed(Callback):
    """Every step's batch in the ledger, before a checkpoint of the step is written.

    Args:
        ledger: What records it.
        fed: Where the batch of the present step comes from.
    """

    def __init__(self, ledger: LedgerWriter, fed: Callable[[], Provenance]) -> None:
        self._ledger, self._fed = ledger, fed

    def after_step(self, result: StepResult) -> None:
        """Record the step."""
        self._ledger.append(result.step, self._fed())

    def close(self) -> None:
        """Close the file."""
        self._ledger.close()


class Metrics(Callback):
    """Loss, learning rate, gradient norm and speed, every few steps, to the tracker.

    Args:
        tracker: Told; it adds what the machine is doing.
        every_steps: Steps between two points.
        more: What else is told at each, by name, given how many steps took how many seconds.
    """

    def __init__(
        self, tracker: Tracker, every_steps: int, more: Callable[[int, float], Mapping[str, float]] = lambda *_: {}
    ) -> None:
        self._tracker, self._every_steps, self._more = tracker, every_steps, more
        self._steps, self._tokens, self._since = 0, 0, time.perf_counter()

    def after_step(self, result: StepResult) -> None:
        """Count, and report when it is time."""
        self._steps, self._tokens = self._steps + 1, self._tokens + result.tokens
        if result.step % self._every_steps:
            return
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        measured = {"loss": result.loss, "learning_rate": result.learning_rate, "grad_norm": result.grad_norm}
        measured = {} if result.skipped else measured
        measured |= {"tokens_per_second": self._tokens / seconds, **self._more(self._steps, seconds)}
        self._tracker.metrics({**measured, **self._tracker.machine()}, step=result.step)
        self._steps, self._tokens = 0, 0


class Checkpoints(Callback):
    """A resumable checkpoint every few steps, written in the background, and at once where one is asked for.

    Args:
        contents: The run as it stands; without weights in a process that only hands over its part.
        every_steps: Steps between two.
        tracker: Told how long each held the run up, and how long it took to write.
    """

    def __init__(self, contents: Callable[[], Contents], every_steps: int, tracker: Tracker) -> None:
        self._contents, self._every_steps, self._tracker = contents, every_steps, tracker
        self.writer: CheckpointWriter | None = None
        """Writes it, in the main process."""

    def after_step(self, result: StepResult) -> None:
        """Take a snapshot when it is time; an earlier one that could not be written ends the run here."""
        self._tell_written()
        if result.step % self._every_steps == 0:
            began = time.perf_counter()
            contents = self._contents()
            if self.writer is not None and contents.model:
                self.writer.submit(contents)
                self._tracker.metrics({"checkpoint/stall_seconds": time.perf_counter() - began}, step=result.step)

    def _tell_written(self) -> None:
        for step, seconds in self.writer.finished() if self.writer is not None else ():
            self._tracker.metrics({"checkpoint/write_seconds": seconds}, step=step)

    def write_now(self) -> None:
        """Write the run as it stands before this returns."""
        contents = self._contents()
        if self.writer is not None and contents.model:
            self.writer.write_now(contents)

    def finish(self) -> None:
        """Wait for what is being written."""
        if self.writer is not None:
            self.writer.drain()
        self._tell_written()

    def close(self) -> None:
        """Let a write that has begun end."""
        if self.writer is not None:
            self.writer.close()
