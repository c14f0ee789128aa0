"""Loss and speed of a run as curves, which the run draws itself when it ends."""

import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

from headrace.pages.curves import Curve, Panel, picture
from headrace.tracking import Tracker
from headrace.training.callbacks import Callback
from headrace.training.logs import LOSS_FILE
from headrace.training.step import StepResult

CURVES_FILE = "curves.svg"
POINTS = 100
"""Of a curve at most; each is the mean of as many steps as that takes."""

Points = list[tuple[float, float]]

log = logging.getLogger(__name__)


class Curves(Callback):
    """Draws the losses of all steps, and the speed of those taken since the run was started or resumed.

    Args:
        folder: Has `losses.jsonl` with all steps when the run ends, and takes `curves.svg`.
        tracker: Keeps the picture with the run.
    """

    def __init__(self, folder: Path, tracker: Tracker) -> None:
        self._folder, self._tracker = folder, tracker
        self._speeds: Points = []
        self._since = time.perf_counter()

    def after_step(self, result: StepResult) -> None:
        """Remember how fast the step was; its loss stands in the log."""
        now = time.perf_counter()
        self._speeds.append((result.step, result.tokens / (now - self._since)))
        self._since = now

    def close(self) -> None:
        """Draw, where there is anything to draw."""
        path = self._folder / CURVES_FILE
        try:
            losses = self._logged()
            if not (losses and self._speeds):
                return
            path.write_text(picture(self._panels(losses), "A training run"))
        except OSError as error:  # a full disk has ended the run: what is told must be that, or nothing
            log.warning("The curves of the run were not drawn. %s", error)
            return
        self._tracker.artifact(path)

    def _panels(self, losses: Points) -> list[Panel]:
        return [
            Panel("Loss, nats a label", "steps", [Curve("the run", thinned(losses))]),
            Panel("Tokens a second", "steps", [Curve("the run", thinned(self._speeds))]),
        ]

    def _logged(self) -> Points:
        lines = map(json.loads, (self._folder / LOSS_FILE).read_text().splitlines())
        return [(line["step"], line["loss"]) for line in lines if "skipped" not in line]


def thinned(points: Sequence[tuple[float, float]]) -> Points:
    """At most `POINTS` points: means of neighbours."""
    size = -(-len(points) // POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]
