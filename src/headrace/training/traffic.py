"""What a run's workers sent, step by step."""

import json
from pathlib import Path
from typing import TextIO

from headrace import storage
from headrace.tracking import Tracker
from headrace.training.callbacks import Callback
from headrace.training.link import Link
from headrace.training.logs import lines_until
from headrace.training.step import StepResult

TRAFFIC_FILE = "traffic.jsonl"


class Traffic(Callback):
    """Every step's traffic as a line of `traffic.jsonl`, and as metrics every few steps.

    It is this worker's, and in a ring every worker's alike. A step's checkpoint is collected after its line is
    written, and told of with the next.

    Args:
        link: What is counted.
        workspace: Where the file lies; lines of steps after `resumed_step` are dropped, for those are taken again.
        resumed_step: The step that the run goes on from, 0 for a new one.
        tracker: Told of the bytes of all steps so far.
        every_steps: Steps between two points of a metric.
    """

    def __init__(self, link: Link, workspace: Path, resumed_step: int, tracker: Tracker, every_steps: int) -> None:
        path = workspace / TRAFFIC_FILE
        kept = lines_until(path, resumed_step)
        storage.write_text(path, "".join(kept))
        self._link, self._tracker, self._every_steps = link, tracker, every_steps
        self._sent, self._collected = link.sent_bytes, link.collected_bytes
        self._total: int = json.loads(kept[-1])["total_bytes"] if kept else 0
        self._file: TextIO = path.open("a")

    def after_step(self, result: StepResult) -> None:
        """Write what was sent, and what other workers sent here for checkpoints, since the step before was written."""
        sent, collected = self._link.sent_bytes - self._sent, self._link.collected_bytes - self._collected
        self._sent, self._collected = self._sent + sent, self._collected + collected
        self._total += sent
        line = {"step": result.step, "sent_bytes": sent, "total_bytes": self._total, "collected_bytes": collected}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if result.step % self._every_steps == 0:
            self._tracker.metrics({"traffic/total_bytes": float(self._total)}, step=result.step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
