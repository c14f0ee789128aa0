"""What the main process does beside computing: checkpoints, logs, metrics and progress.

Where workers train apart and the main one is gone, the next becomes it and takes its duties up at the step in progress:
everything told of the steps before stands in the workspace, which all see.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace import checkpoints
from headrace.artifacts import LEDGER_FILE
from headrace.data.ledger_writer import beginning
from headrace.errors import UnavailableError
from headrace.tracking import Tracker
from headrace.training.callbacks import Callback, Checkpoints, Feed, Metrics
from headrace.training.curves import Curves
from headrace.training.logs import LossLog, SkippedLog
from headrace.training.mirror import Mirror, configured
from headrace.training.profile import Profile, profiled_steps
from headrace.training.progress import Bar, Progress
from headrace.training.run import Run
from headrace.training.step import StepResult
from headrace.training.throughput import Throughput
from headrace.training.traffic import Counted, Traffic, counted_by
from headrace.training.writer import CheckpointWriter


class Duties:
    """Of one process, whether or not it is the main one yet.

    Args:
        run: What is told of.
        home: Its workspace.
        about: JSON values that tell a reader what run this is.
        output_uri: Where its last checkpoint goes.
        tracker: Told of metrics and progress.
        stack: Closes what is opened.
    """

    def __init__(
        self, run: Run, home: Path, about: Any, output_uri: str, tracker: Tracker, stack: contextlib.ExitStack
    ) -> None:
        self._run, self._home, self._about, self._output_uri = run, home, about, output_uri
        self._tracker, self._stack = tracker, stack
        self._callbacks: list[Callback] | None = None
        self._mirror: Mirror | None = None
        self._counted: Counted | None = None
        self._told = 0
        every = run.config.checkpoint_every_steps
        self.saving = Checkpoints(lambda: run.contents(resumable=True), every, tracker)
        """Saves the run; every process hands over its part of every checkpoint."""

    def newest(self) -> str:
        """Claim the workspace; the checkpoint to go on from, if there is room for more: there, or newer in the mirror.

        Raises:
            UnavailableError: Another process trains with the same arguments, or there is no room.
        """
        self._stack.enter_context(checkpoints.claimed(self._home))
        checkpoints.require_room(self._home, self._run.resumable_bytes())
        checkpoints.require_room(self._output_uri, 0)
        self._mirror = configured(self._home, self._about, self._run.config.checkpoints)
        latest = checkpoints.find_latest(self._home)
        return str((latest if self._mirror is None else self._mirror.bring_newer(latest)) or "")

    def begin(self, latest: Path | None) -> None:
        """Where this is the main process, tell of every step from the one on that the run has reached."""
        if self._run.replicas.is_main:
            self._open(self._run.step, None if latest is None else latest / LEDGER_FILE)

    def tell(self, result: StepResult) -> None:
        """Tell of a step, once, in the main process; who has just become it takes the duties up first."""
        self.take_over(result.step - 1)
        if self._told == result.step:
            return
        for callback in self._callbacks or []:
            callback.after_step(result)
        self._told = result.step

    def note(self) -> None:
        """A step is told of: what is sent from now on is of the next."""
        if self._run.replicas.link is not None:
            self._counted = counted_by(self._run.replicas.link)

    def take_over(self, step: int) -> bool:
        """Take the duties up after `step` where this process has just become the main one; whether it has.

        The one before may be hung, and hold its claim of the workspace for good.
        """
        if self._callbacks is not None or not self._run.replicas.is_main:
            return False
        with contextlib.suppress(UnavailableError):
            self._stack.enter_context(checkpoints.claimed(self._home))
        self._mirror = configured(self._home, self._about, self._run.config.checkpoints)
        left = beginning(self._home / LEDGER_FILE, step)
        self._open(step, left)
        left.unlink()
        return True

    def _open(self, step: int, ledger: Path | None) -> None:
        self._callbacks = [*self._logs(step, ledger), *self._shown()]
        for callback in self._callbacks:
            self._stack.callback(callback.close)
        home, policy, mirror = self._home, self._run.config.checkpoints, self._mirror
        self.saving.writer = CheckpointWriter(
            lambda contents: checkpoints.save(home, contents, policy), mirror.copy if mirror else None
        )
        self._stack.callback(self.saving.close)  # before the workspace is anybody else's

    def _logs(self, step: int, resumed: Path | None) -> Iterator[Callback]:
        """What writes files in the workspace, from `step` on."""
        run, home, tracker, feeder = self._run, self._home, self._tracker, self._run.feeder
        yield LossLog(home, step)
        yield Curves(home, tracker)
        yield SkippedLog(home, step, feeder.fed_documents, lambda: run.guard.skipped, tracker)
        if run.replicas.link is not None:
            yield Traffic(run.replicas.link, home, step, tracker, run.config.log_every_steps, self._counted)
        yield Feed(feeder.keep_ledger(home / LEDGER_FILE, step, resumed), feeder.fed)
        if (steps := profiled_steps()) is not None:
            yield Profile(steps, home, tracker, step)

    def _shown(self) -> Iterator[Callback]:
        """What a reader follows: metrics, a line of progress and, on a terminal, a bar."""
        run, tracker = self._run, self._tracker
        devices = 1 if run.replicas.mesh is None else run.replicas.mesh.size()
        throughput = Throughput(run.config, run.replicas.device, devices)
        yield Metrics(
            tracker, run.config.log_every_steps, lambda *span: run.feeder.measured() | throughput.measured(*span)
        )
        yield Progress(tracker.progress, run.config.steps)
        if sys.stderr.isatty():
            yield Bar(run.config.steps)
