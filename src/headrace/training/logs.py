"""Steps as lines of JSON in files of the workspace, which a resumed run goes on with."""

import json
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from headrace import storage
from headrace.tracking import Tracker
from headrace.training.callbacks import Callback
from headrace.training.step import StepResult

LOSS_FILE = "losses.jsonl"
SKIPPED_FILE = "skipped.jsonl"


class LossLog(Callback):
    """Every step as a line of JSON in `losses.jsonl`, its numbers to the last bit.

    Lines of steps after `resumed_step` are dropped: they were taken by a run that was killed before its next
    checkpoint, and will be taken again.
    """

    def __init__(self, workspace: Path, resumed_step: int) -> None:
        path = workspace / LOSS_FILE
        storage.write_text(path, "".join(lines_until(path, resumed_step)))
        self._file: TextIO = path.open("a")

    def after_step(self, result: StepResult) -> None:
        """Write the line and hand it to the operating system, where a killed process cannot lose it."""
        self._file.write(json.dumps(_values(result)) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def lines_until(path: Path, step: int) -> list[str]:
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
        self._documents, self._skipped, self._tracker = documents, skipped, tracker
        self._path = workspace / SKIPPED_FILE
        if self._path.exists():
            storage.write_text(self._path, "".join(lines_until(self._path, resumed_step)))

    def after_step(self, result: StepResult) -> None:
        """Write the line and tell how many there are."""
        if not result.skipped:
            return
        with self._path.open("a") as file:
            file.write(json.dumps(_values(result) | {"documents": self._documents()}) + "\n")
        steps = self._skipped()
        self._tracker.metrics({"skipped_steps": len(steps)}, step=result.step)
        self._tracker.tags({"headrace.skipped_steps": ", ".join(map(str, steps[-100:]))})
