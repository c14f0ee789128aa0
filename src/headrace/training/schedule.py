"""How the learning rate moves: a straight warmup to the peak, then a decay to the floor.

`learning_rate(step)` is a function of the step alone, so a resumed run needs no scheduler state.
"""

import math
from dataclasses import dataclass
from typing import Literal

from headrace.errors import ConfigError


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Warmup, then a decay; every length is counted in optimizer steps.

    Raises:
        ConfigError: A floor above the peak, a negative length, or a decay of no steps.
    """

    kind: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape after the warmup; `constant` stays at the peak."""
    peak: float = 1e-3
    """Learning rate at the end of the warmup."""
    floor: float = 0.0
    """Learning rate from the end of the decay on."""
    warmup_steps: int = 0
    """Steps from 0 to `peak`, in a straight line."""
    decay_steps: int = 1
    """Steps from `peak` to `floor`, counted from the end of the warmup; unused when `constant`."""

    def __post_init__(self) -> None:
        if not 0 <= self.floor <= self.peak or self.peak == 0:
            raise ConfigError(f"floor={self.floor} and peak={self.peak} need 0 <= floor <= peak and a peak above 0.")
        if self.warmup_steps < 0:
            raise ConfigError(f"warmup_steps={self.warmup_steps} is negative. Set 0 for no warmup.")
        if self.decay_steps < 1 and self.kind != "constant":
            raise ConfigError(f"decay_steps={self.decay_steps} decays over no step. Set at least 1, or kind=constant.")

    def learning_rate(self, step: int) -> float:
        """Learning rate of the update that follows `step` finished ones: 0 for the first after a warmup."""
        if step < self.warmup_steps:
            return self.peak * step / self.warmup_steps
        decayed = min(1.0, (step - self.warmup_steps) / max(1, self.decay_steps))
        if self.kind == "cosine":
            remaining = (1 + math.cos(math.pi * decayed)) / 2
        else:
            remaining = 1.0 if self.kind == "constant" else 1.0 - decayed
        return self.floor + (self.peak - self.floor) * remaining


def gptj() -> ScheduleConfig:
    """GPT-J's schedule: of its 383,500 steps the last 80,500 ran at the floor.

    Source: `gpt3_schedule` and `6B_roto_256.json` of mesh-transformer-jax.
    """
    return ScheduleConfig(kind="cosine", peak=1.2e-4, floor=1.2e-5, warmup_steps=3_000, decay_steps=300_000)


def gptjt(steps: int) -> ScheduleConfig:
    """GPT-JT's schedule over a run of `steps`: 1e-5 after 100 steps of warmup, 0 at the end.

    Source: `get_linear_schedule_with_warmup` of transformers, as GPT-JT's training called it.
    """
    return ScheduleConfig(kind="linear", peak=1e-5, floor=0.0, warmup_steps=100, decay_steps=steps - 100)
