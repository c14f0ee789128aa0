"""How long checkpoints hold the training loop up, beside those of transformers' `Trainer`: the model of `case.py`.

Both save weights and moments every three steps of 8,192 tokens; a run would by default every hundred. Ours are copied
and then written in the background, the peer's are written before the next step begins.
"""

import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.alternate import Measured, beside_trainer, others_note
from benchmarks.options import Options
from benchmarks.tables import Table
from benchmarks.training.peer import build_peer
from benchmarks.training.whole_run import CONTEXT, arguments, prepared
from headrace.tracking import Tracker

EVERY, STEPS = 3, 11
"""The last checkpoint is written before the run ends."""
ASKED = 0.02


def run(options: Options) -> Iterator[Table]:
    """Train with both, in turns."""
    with prepared() as folder:
        yield table(beside_trainer(__name__, options.rounds, {"folder": folder}))


def table(measured: Mapping[str, Measured]) -> Table:
    """Stalls of both sides, medians over the rounds; `measured` holds what `shares` gives, by side."""
    rows = [
        {
            "side": name,
            "checkpoints": f"{len(one.runs[0]['stalls'])} in {STEPS - 1} steps",
            "s a stall": f"{one.median('stall_seconds'):.3f}",
            "of wall time": f"{one.median('stalled'):.2%}",
            "and slower steps": f"{one.median('slowed'):+.2%}",
        }
        for name, one in measured.items()
    ]
    ours = measured["headrace"].median("stalled")
    return Table(
        title="What checkpoints take from training",
        rows=rows,
        notes=[
            f"The loop stands still for {ours:.2%} of the time from its first step's end (asked: {ASKED:.0%}).",
            "Slower steps: what the step after a checkpoint takes beyond the others, the stall left out, as a share of "
            "all time. The writer shares the cores with it.",
            others_note(measured.values()),
        ],
        numbers={name: one.runs for name, one in measured.items()},
    )


class Clock(Tracker):
    """When each step ended, and how long each checkpoint took from the loop."""

    def __init__(self) -> None:
        self.ends: list[float] = []
        self.stalls: dict[int, float] = {}

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Hear of a step, or of a checkpoint."""
        if "loss" in values:
            self.ends.append(time.perf_counter())
        if step is not None and "checkpoint/stall_seconds" in values:
            self.stalls[step] = values["checkpoint/stall_seconds"]


def headrace(folder: str) -> dict[str, Any]:
    """`shares` of our training loop; `folder` is what `prepared` filled."""
    from headrace.training.loop import train

    clock = Clock()
    with tempfile.TemporaryDirectory() as own:
        train(**arguments(Path(folder), Path(own), STEPS, EVERY), tracker=clock)
    return shares(clock.ends, clock.stalls)


def transformers_trainer() -> dict[str, Any]:
    """`shares` of `Trainer` on the same model and batch."""
    from transformers import TrainerCallback

    class PeerClock(TrainerCallback):
        def __init__(self) -> None:
            self.ends: list[float] = []
            self.stalls: dict[int, float] = {}

        def on_step_end(self, *_: Any, **__: Any) -> None:
            self.ends.append(time.perf_counter())

        def on_save(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
            self.stalls[state.global_step] = time.perf_counter() - self.ends[-1]

    clock = PeerClock()
    with tempfile.TemporaryDirectory() as own:
        build_peer(CONTEXT, STEPS, own, clock, save_strategy="steps", save_steps=EVERY).train()
    clock.stalls.pop(STEPS, None)  # it saves once more at its end
    return shares(clock.ends, clock.stalls)


def shares(ends: list[float], stalls: Mapping[int, float]) -> dict[str, Any]:
    """Parts of the time between the first step's end and the last one's.

    Args:
        ends: When each step ended, before its checkpoint was taken.
        stalls: Seconds by the step after which a checkpoint was taken.
    """
    wall = ends[-1] - ends[0]
    steps = {n: after - before for n, (before, after) in enumerate(itertools.pairwise(ends), start=1)}
    usual = statistics.median(seconds for step, seconds in steps.items() if step not in stalls)
    slower = sum(steps[step] - stall - usual for step, stall in stalls.items())
    return {
        "seconds": wall,
        "step_seconds": usual,
        "stalls": list(stalls.values()),
        "stall_seconds": statistics.median(stalls.values()),
        "stalled": sum(stalls.values()) / wall,
        "slowed": slower / wall,
    }
