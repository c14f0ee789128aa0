"""Sides of a comparison in fresh processes, one after the other and again, so that a slow minute hits all.

A side is a function that takes and returns plain values, among them `seconds`. Its process reports beside
them its peak memory, the core-seconds it used, and how many cores other processes of the machine kept busy
meanwhile: a comparison on a busy machine says so.
"""

import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.machine import now
from headrace import resident

ROOT = Path(__file__).parents[1]
MARK = "benchmark result: "


@dataclass(frozen=True, slots=True)
class Side:
    """One way to do the work: `package.module:function` and what it is called with."""

    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Measured:
    """What the processes of one side reported."""

    runs: list[dict[str, Any]]

    def median(self, name: str = "seconds") -> float:
        """Of all runs: what half of them stayed under."""
        return statistics.median(run[name] for run in self.runs)

    def spread(self, name: str = "seconds") -> float:
        """Largest less smallest, as a share of the median."""
        values = [run[name] for run in self.runs]
        return (max(values) - min(values)) / self.median(name)


def alternate(sides: Mapping[str, Side], rounds: int) -> dict[str, Measured]:
    """Run every side once a round, beginning each round with another one."""
    names = list(sides)
    measured = {name: Measured([]) for name in names}
    for number in range(rounds):
        for name in names[number % len(names) :] + names[: number % len(names)]:
            measured[name].runs.append(run_side(sides[name]))
            print(f"  {name}: {measured[name].runs[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    return measured


def beside_trainer(
    module: str, rounds: int, ours: Mapping[str, Any] = {}, theirs: Mapping[str, Any] = {}
) -> dict[str, Measured]:
    """A module's `headrace` and `transformers_trainer` in turns, each called with its own arguments."""
    sides = {
        "headrace": Side(f"{module}:headrace", ours),
        "transformers.Trainer": Side(f"{module}:transformers_trainer", theirs),
    }
    return alternate(sides, rounds)


def others_note(measured: Iterable[Measured]) -> str:
    """How busy the rest of the machine was, at most."""
    busiest = max(run["other_cores"] for one in measured for run in one.runs)
    return f"Other processes kept up to {busiest:.1f} cores busy meanwhile."


def run_side(side: Side) -> dict[str, Any]:
    """Run a side in a process of its own.

    Raises:
        RuntimeError: It failed; with the end of what it said.
    """
    os.sync()  # or it would share the disk with what the side before left to be written
    command = [sys.executable, "-m", "benchmarks.alternate", side.function, json.dumps(dict(side.arguments))]
    path = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
    done = subprocess.run(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith(MARK):
            result: dict[str, Any] = json.loads(line.removeprefix(MARK))
            return result
    raise RuntimeError(f"{side.function} failed: {done.stderr[-2000:]}")


def _child(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    module, _, name = function.partition(":")
    run = getattr(importlib.import_module(module), name)
    wall, busy = now()
    result = run(**arguments)
    wall, busy = now()[0] - wall, now()[1] - busy
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own = sum(usage.ru_utime + usage.ru_stime for usage in usages)
    return {
        **result,
        "peak_bytes": resident.peak_bytes(),
        "child_peak_bytes": usages[1].ru_maxrss * 1024,
        "other_cores": round(max(busy - own, 0) / wall, 2),
    }


if __name__ == "__main__":
    print(MARK + json.dumps(_child(sys.argv[1], json.loads(sys.argv[2]))), flush=True)
