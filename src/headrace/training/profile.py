"""A few steps under torch's profiler, where `HEADRACE_PROFILE` names them: `10-12`.

What is computed stays the same, so it is a matter of where and how a run is started, and in no configuration.
"""

import os
import re
from pathlib import Path

import torch

from headrace.errors import ConfigError
from headrace.tracking import Tracker
from headrace.training.callbacks import Callback
from headrace.training.step import StepResult

VARIABLE = "HEADRACE_PROFILE"
TRACE_FILE = "profile.json"
TABLE_FILE = "profile.txt"
TABLE_ROWS = 40


def profiled_steps() -> tuple[int, int] | None:
    """First and last step to profile, from 1; None where the environment asks for none.

    Raises:
        ConfigError: The variable names no steps.
    """
    asked = os.environ.get(VARIABLE, "")
    if not asked:
        return None
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", asked)
    first, last = (int(found[1]), int(found[2] or found[1])) if found else (0, 0)
    if not 1 <= first <= last:
        raise ConfigError(f"{VARIABLE}={asked!r} names no steps. Write FIRST-LAST, such as 10-12.")
    return first, last


class Profile(Callback):
    """Profiles some steps: a trace for chrome://tracing or Perfetto, and a table of what took longest.

    Args:
        steps: First and last, from 1.
        folder: Where both files go.
        tracker: Keeps them with the run.
        taken: Steps that were taken before.
    """

    def __init__(self, steps: tuple[int, int], folder: Path, tracker: Tracker, taken: int) -> None:
        self._steps, self._folder, self._tracker = steps, folder, tracker
        self._profiler: torch.profiler.profile | None = None
        self._start_after(taken)

    def after_step(self, result: StepResult) -> None:
        """Begin before the first step, end after the last."""
        if self._profiler is not None and result.step == self._steps[1]:
            self._keep()
        self._start_after(result.step)

    def close(self) -> None:
        """Keep what there is of a run that ended within."""
        if self._profiler is not None:
            self._keep()

    def _start_after(self, step: int) -> None:
        if step + 1 == self._steps[0]:
            self._profiler = torch.profiler.profile()
            self._profiler.start()

    def _keep(self) -> None:
        profiler, self._profiler = self._profiler, None
        assert profiler is not None
        profiler.stop()
        trace, table = self._folder / TRACE_FILE, self._folder / TABLE_FILE
        profiler.export_chrome_trace(str(trace))
        column = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        table.write_text(profiler.key_averages().table(sort_by=column, row_limit=TABLE_ROWS))
        for path in (trace, table):
            self._tracker.artifact(path, "profile")
