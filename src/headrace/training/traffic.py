"""What a run's workers sent, step by step."""

import json
from pathlib import Path
from typing import NamedTuple, TextIO

from headrace import storage
from headrace.tracking import Tracker
from headrace.training.callbacks import Callback
from headrace.training.link import Link
from headrace.training.logs import lines_until
from headrace.training.step import StepResult

TRAFFIC_FILE = "traffic.jsonl"


class Counted(NamedTuple):
    """Bytes since a worker started."""

    sent: int
    """Its own payload, and what it told the store by which workers find one another."""
    collected: int
    """Of other workers' checkpoints."""


def counted_by(link: Link) -> Counted:
    """What has left this worker, and reached it for checkpoints, by now."""
    return Counted(link.sent_bytes + link.circle.sent_bytes, link.collected_bytes)


class Traffic(Callback):
    """Every step's traffic as a line of `traffic.jsonl`, and as metrics every few steps.

    It is the main worker's, and in a ring every worker's alike. A step's checkpoint is collected after its line is
    written, and told of with the next, as is what it took to take in a newcomer. Where another worker becomes the main
    one, its first line is of what it has itself sent since the step before.

    Args:
        link: What is counted.
        workspace: Where the file lies; lines of steps after `resumed_step` are dropped, for those are taken again.
        resumed_step: The step that the run goes on from, 0 for a new one.
        tracker: Told of the bytes of all steps so far.
        every_steps: Steps between two points of a metric.
        counted: What the link had counted after that step; as much as it has where None.
    """

    def __init__(
        self,
        link: Link,
        workspace: Path,
        resumed_step: int,
        tracker: Tracker,
        every_steps: int,
        counted: Counted | None = None,
    ) -> None:
        path = workspace / TRAFFIC_FILE
        kept = lines_until(path, resumed_step)
        storage.write_text(path, "".join(kept))
        self._link, self._tracker, self._every_steps = link, tracker, every_steps
        self._before = counted or counted_by(link)
        self._total: int = json.loads(kept[-1])["total_bytes"] if kept else 0
        self._file: TextIO = path.open("a")

    def after_step(self, result: StepResult) -> None:
        """Write what was sent, and what other workers sent here for checkpoints, since the step before was written."""
        now = counted_by(self._link)
        sent, collected = now.sent - self._before.sent, now.collected - self._before.collected
        self._before = now
        self._total += sent
        line = {"step": result.step, "sent_bytes": sent, "total_bytes": self._total, "collected_bytes": collected}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if result.step % self._every_steps == 0:
            self._tracker.metrics({"traffic/total_bytes": float(self._total)}, step=result.step)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
