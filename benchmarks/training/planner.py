"""`headrace plan` on this machine's processor, beside real steps of shapes that its calibration has not seen."""

import statistics
from collections.abc import Iterator
from dataclasses import asdict

from benchmarks.machine import now
from benchmarks.options import Options
from benchmarks.tables import Table
from headrace.cluster.slices import this_machine
from headrace.planner.advice import make_plan
from headrace.planner.calibration import Calibration, calibrate
from headrace.planner.measure import Measured, measure
from headrace.planner.shapes import shape
from headrace.training.config import TrainConfig

CASES = {
    "the demo's model": shape(2192, 4, 192, 256, 8, 8),
    "GPT-J's vocabulary": shape(50_400, 2, 256, 512, 4, 2),
    "deeper, 512 tokens": shape(8192, 6, 320, 512, 4, 4),
    "wide": shape(2048, 3, 768, 256, 4, 4),
    "2048 tokens, 2 microbatches": shape(4096, 8, 256, 2048, 2, 1),
}


def run(options: Options) -> Iterator[Table]:
    """Calibrate, then measure every case in fresh processes."""
    (wall, busy), rows, numbers = now(), [], {}
    calibration = calibrate()
    for name, train in CASES.items():
        runs = [measure(train) for _ in range(options.rounds)]
        numbers[name] = compare(train, runs, calibration)
        rows.append(_row(name, numbers[name]))
    wall, busy = now()[0] - wall, now()[1] - busy
    worst = {kind: max(abs(one[f"{kind}_error"]) for one in numbers.values()) for kind in ("memory", "time")}
    yield Table(
        title="The plan of a run beside the run, CPU",
        rows=rows,
        notes=[
            f"Memory is at most {worst['memory']:.1%} off (asked: 10 %), time {worst['time']:.1%} (asked: 20 %).",
            f"Calibrated in {calibration.threads} thread(s) on other shapes. A step's time is the least of all runs, "
            "in core-seconds where there is one thread; memory is the median of each process's peak.",
            f"{busy / wall:.1f} of {this_machine().cores} cores were busy on average, other processes included.",
        ],
        numbers={"cases": numbers, "calibration": asdict(calibration)},
    )


def compare(train: TrainConfig, runs: list[Measured], calibration: Calibration) -> dict[str, float]:
    """A plan beside real runs: bytes and seconds a step of both, and by what share of the real ones the plan is off.

    Args:
        train: What was planned and run.
        runs: Each of a process of its own; the median of their peaks and the least of their times count.
        calibration: Of this machine, on other shapes.
    """
    plan = make_plan(train, this_machine(), calibration)
    peak = statistics.median(one.peak_bytes for one in runs)
    seconds = min(one.step_seconds for one in runs)
    planned = plan.forecast.step_seconds or 0.0
    return {
        "planned_bytes": plan.memory.total,
        "peak_bytes": peak,
        "memory_error": plan.memory.total / peak - 1,
        "planned_seconds": planned,
        "step_seconds": seconds,
        "time_error": planned / seconds - 1,
    }


def _row(name: str, numbers: dict[str, float]) -> dict[str, str]:
    return {
        "run": name,
        "planned MiB": f"{numbers['planned_bytes'] / 2**20:,.0f}",
        "peak MiB": f"{numbers['peak_bytes'] / 2**20:,.0f}",
        "off": f"{numbers['memory_error']:+.1%}",
        "planned s": f"{numbers['planned_seconds']:.3f}",
        "a step, s": f"{numbers['step_seconds']:.3f}",
        "off ": f"{numbers['time_error']:+.1%}",
    }
