"""A run as a reader watches it: one line, and a bar where there is a terminal."""

import math
import time
from collections.abc import Callable

from headrace.durations import duration
from headrace.training.callbacks import Callback
from headrace.training.step import StepResult

SECONDS_BETWEEN_REPORTS = 1.0


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
