"""Steps that would do harm: which are skipped, and when there have been too many of them.

A skipped step leaves weights and moments as they were, and its batch is used up. Some documents make a loss that is
not finite or a gradient far outside the ordinary; a run of weeks should not end, or be set back, for one of them.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from headrace.errors import ConfigError, TrainingError

TO_DEVIATION = 1.4826
"""Standard deviations in a median absolute deviation, of normal values."""
LEAST_DEVIATION = 0.01
"""Share of the median that a deviation counts for at least: values that hardly differ have no spikes of their own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GuardConfig:
    """Which steps are skipped, and how many may be; 0 of them unless a recipe says otherwise.

    Raises:
        ConfigError: A negative number, no step in a row, or a window too short to have a median.
    """

    skips: int = 0
    """Steps that may be skipped in a whole run. At 0, the first that would be ends the run."""
    skips_in_a_row: int = 3
    """Steps that may be skipped one after another: more are no matter of the documents."""
    deviations: float = 0.0
    """A step whose loss or gradient norm is this many deviations above the median of the last steps is a spike;
    0 looks for values that are not finite alone. 20 leaves ordinary gradient norms, which are skewed, in peace."""
    window_steps: int = 128
    """Steps that the median is of, skipped ones left out; nothing is a spike before there have been as many."""

    def __post_init__(self) -> None:
        if self.skips < 0 or self.deviations < 0 or self.skips_in_a_row < 1 or self.window_steps < 8:
            raise ConfigError(
                f"skips={self.skips}, deviations={self.deviations}, skips_in_a_row={self.skips_in_a_row} and "
                f"window_steps={self.window_steps} of guard need to be at least 0, 0, 1 and 8."
            )


class Guard:
    """Judges one step after another; what it has seen is part of a run's state."""

    def __init__(self, config: GuardConfig) -> None:
        self._config = config
        self._seen: deque[tuple[float, float]] = deque(maxlen=config.window_steps)
        self.skipped: list[int] = []
        """Steps skipped so far."""

    def objection(self, step: int, *, loss: float, grad_norm: float) -> str:
        """Why a step is to be skipped; empty where it is not.

        Raises:
            TrainingError: There is a reason, and no further step may be skipped.
        """
        values = {"loss": loss, "grad_norm": grad_norm}
        reason = _not_finite(values) or self._spike(values)
        if reason and (limit := self._limit(step)):
            raise TrainingError(
                f"Step {step:,} has {reason}; no weight was changed. {limit}Lower schedule.peak or lengthen "
                "schedule.warmup_steps."
            )
        return reason

    def _spike(self, values: Mapping[str, float]) -> str:
        if not self._config.deviations or len(self._seen) < self._config.window_steps:
            return ""
        for (name, value), before in zip(values.items(), zip(*self._seen, strict=True), strict=True):
            usual, limit = bounds(before, self._config.deviations)
            if value > limit:
                return f"{name}={value:.6g}, above {limit:.6g} with a median of {usual:.6g} before it"
        return ""

    def _limit(self, step: int) -> str:
        """Which limit another skipped step would break, as a sentence; empty where it breaks none."""
        config, before = self._config, len(self.skipped)
        if not config.skips:
            return "guard.skips=0 lets none be skipped. "
        if before == config.skips:
            return f"It would be skipped, as {before:,} were, and guard.skips={config.skips:,}. "
        if self.skipped[-config.skips_in_a_row :] == list(range(step - config.skips_in_a_row, step)):
            return f"{config.skips_in_a_row} before it were skipped, and guard.skips_in_a_row allows no more. "
        return ""

    def record(self, step: int, *, loss: float, grad_norm: float, skipped: bool) -> None:
        """Remember a finished step."""
        if skipped:
            self.skipped.append(step)
        else:
            self._seen.append((loss, grad_norm))

    def state(self) -> dict[str, Any]:
        """What it has seen, as JSON values."""
        return {"seen": [list(pair) for pair in self._seen], "skipped": list(self.skipped)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._seen.extend((loss, norm) for loss, norm in state["seen"])
        self.skipped = list(state["skipped"])


def bounds(values: Iterable[float], deviations: float) -> tuple[float, float]:
    """The median of some values, and what lies `deviations` above it; one wild value moves neither."""
    values = list(values)
    usual = median(values)
    spread = TO_DEVIATION * median(abs(value - usual) for value in values)
    return usual, usual + deviations * max(spread, LEAST_DEVIATION * abs(usual))


def _not_finite(values: Mapping[str, float]) -> str:
    for name, value in values.items():
        if not math.isfinite(value):
            return f"{name}={value}, which is not finite"
    return ""
