"""What a run does beside computing: logs, metrics, progress and checkpoints, each told after every step."""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from headrace import storage
from headrace.checkpoints import Contents
from headrace.data.ledger_writer import LedgerWriter
from headrace.data.loader import Provenance
from headrace.tracking import Tracker
from headrace.training.step import StepResult
from headrace.training.writer import CheckpointWriter

LOSS_FILE = "losses.jsonl"
SKIPPED_FILE = "skipped.jsonl"
SECONDS_BETWEEN_REPORTS = 1.0


class Callback:
    """Something told of every finished step; this base class ignores it."""

    def after_step(self, result: StepResult) -> None:
        """A step was taken."""

    def close(self) -> None:
        """The run has ended, by itself or by an error."""


class LossLog(Callback):
    """Every step as a line of JSON in `losses.jsonl`, its numbers to the last bit.

    Lines of steps after `resumed_step` are dropped: they were taken by a run that was killed before its next
    checkpoint, and will be taken again.
    """

    def __init__(self, workspace: Path, resumed_step: int) -> None:
        path = workspace / LOSS_FILE
        storage.write_text(path, "".join(_lines_until(path, resumed_step)))
        self._file: TextIO = path.open("a")

    def after_step(self, result: StepResult) -> None:
        """Write the line and hand it to the operating system, where a killed process cannot lose it."""
        self._file.write(json.dumps(_values(result)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _lines_until(path: Path, step: int) -> list[str]:
    """Whole lines of a log up to `step`; a killed process may have left half of one at the end."""
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    whole = [line for line in lines if line.endswith("}\n")]
    return [line for line in whole if json.loads(line)["step"] <= step]


def _values(result: StepResult) -> dict[str, Any]:
    """A step as JSON values, which know neither NaN nor infinity; `skipped` is there where it was."""
    values = {name: value for name, value in asdict(result).items() if (name, value) != ("skipped", "")}
    finite = {name: not isinstance(value, float) or math.isfinite(value) for name, value in values.items()}
    return {name: value if finite[name] else None for name, value in values.items()}


class SkippedLog(Callback):
    """Every skipped step and the documents it was fed as a line of JSON in `skipped.jsonl`, and to the tracker.

    Args:
        workspace: Where the file lies.
        resumed_step: Lines of later steps are dropped, as those of `losses.jsonl` are.
        documents: What the present step was fed.
        skipped: All steps skipped so far.
        tracker: Told.
    """

    def __init__(
        self,
        workspace: Path,
        resumed_step: int,
        documents: Callable[[], list[dict[str, Any]]],
        skipped: Callable[[], list[int]],
        tracker: Tracker,
    ) -> None:
        self._path, self._documents, self._skipped, self._tracker = (
            workspace / SKIPPED_FILE,
            documents,
            skipped,
            tracker,
        )
        if self._path.exists():
            storage.write_text(self._path, "".join(_lines_until(self._path, resumed_step)))

    def after_step(self, result: StepResult) -> None:
        """Write the line and tell how many there are."""
        if not result.skipped:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(_values(result) | {"documents": self._documents()}) + "\n")
        steps = self._skipped()
        self._tracker.metrics({"skipped_steps": len(steps)}, step=result.step)
        self._tracker.tags({"headrace.skipped_steps": ", ".join(map(str, steps[-100:]))})


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
        tracker: Told.
        every_steps: Steps between two points.
        more: What else is told at each, by name.
    """

    def __init__(self, tracker: Tracker, every_steps: int, more: Callable[[], Mapping[str, float]] = dict) -> None:
        self._tracker, self._every_steps, self._more = tracker, every_steps, more
        self._tokens, self._since = 0, time.perf_counter()

    def after_step(self, result: StepResult) -> None:
        """Count, and report when it is time."""
        self._tokens += result.tokens
        if result.step % self._every_steps:
            return
        now = time.perf_counter()
        measured = {"loss": result.loss, "learning_rate": result.learning_rate, "grad_norm": result.grad_norm}
        measured = {} if result.skipped else measured
        measured |= self._more()
        self._tracker.metrics(measured | {"tokens_per_second": self._tokens / (now - self._since)}, step=result.step)
        self._tokens, self._since = 0, now


class Progress(Callback):
    """Loss, speed and time left as one line, about once a second.

    Args:
        report: Takes the line and the share of steps taken, such as `Tracker.progress`.
        steps: Steps of the whole run.
    """

    def __init__(self, report: Callable[[str, float], None], steps: int) -> None:
        self._report, self._steps = report, steps
        self._taken = self._tokens = 0
        self._started, self._reported = time.perf_counter(), -math.inf

    def after_step(self, result: StepResult) -> None:
        """Report the first step, the last, and what a reader can follow in between."""
        self._taken += 1
        self._tokens += result.tokens
        now = time.perf_counter()
        if now - self._reported >= SECONDS_BETWEEN_REPORTS or result.step == self._steps:
            self._reported = now
            self._report(self._line(result, now - self._started), result.step / self._steps)

    def _line(self, result: StepResult, seconds: float) -> str:
        """The state of the run, `seconds` after it was started or resumed."""
        left = seconds / self._taken * (self._steps - result.step)
        return (
            f"step {result.step:,}/{self._steps:,} · loss {result.loss:.3f} · "
            f"{self._tokens / seconds:,.0f} tokens/s · {duration(left)} left"
        )


class Bar(Callback):
    """The same line beside a bar on standard error, for who runs a step by hand."""

    def __init__(self, steps: int) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as RichProgress

        columns = BarColumn(), TextColumn("{task.description}")
        self._bar = RichProgress(*columns, console=Console(stderr=True), transient=True)
        self._task = self._bar.add_task("starting", total=1.0)
        self._progress = Progress(self._show, steps)
        self._bar.start()

    def _show(self, text: str, fraction: float) -> None:
        self._bar.update(self._task, description=text, completed=fraction)

    def after_step(self, result: StepResult) -> None:
        """Move the bar."""
        self._progress.after_step(result)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._bar.stop()


class Checkpoints(Callback):
    """A resumable checkpoint every few steps, written in the background, and at once where one is asked for.

    Args:
        contents: The run as it stands.
        writer: Writes it; None in a process that only hands over its part.
        every_steps: Steps between two.
        tracker: Told how long each held the run up, and how long it took to write.
    """

    def __init__(
        self, contents: Callable[[], Contents], writer: CheckpointWriter | None, every_steps: int, tracker: Tracker
    ) -> None:
        self._contents, self._writer, self._every_steps, self._tracker = contents, writer, every_steps, tracker

    def after_step(self, result: StepResult) -> None:
        """Take a snapshot when it is time; an earlier one that could not be written ends the run here."""
        self._tell_written()
        if result.step % self._every_steps == 0:
            began = time.perf_counter()
            contents = self._contents()
            if self._writer is not None:
                self._writer.submit(contents)
                self._tracker.metrics({"checkpoint/stall_seconds": time.perf_counter() - began}, step=result.step)

    def _tell_written(self) -> None:
        for step, seconds in self._writer.finished() if self._writer is not None else ():
            self._tracker.metrics({"checkpoint/write_seconds": seconds}, step=step)

    def write_now(self) -> None:
        """Write the run as it stands before this returns."""
        contents = self._contents()
        if self._writer is not None:
            self._writer.write_now(contents)

    def finish(self) -> None:
        """Wait for what is being written."""
        if self._writer is not None:
            self._writer.drain()
        self._tell_written()

    def close(self) -> None:
        """Let a write that has begun end."""
        if self._writer is not None:
            self._writer.close()


def duration(seconds: float) -> str:
    """Seconds as a reader would say them: `48 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
