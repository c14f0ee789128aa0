"""From the start of a process to the end of its first training step, beside transformers' `Trainer`.

The model and the batch are those of `case.py` at context 512. Ours is `python -m headrace.training`, which opens
and verifies shards on the disk; the peer has its tokens in memory. The clock is that of the process that starts them.
"""

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from benchmarks.alternate import Measured, beside_trainer, others_note
from benchmarks.options import Options
from benchmarks.tables import Table
from benchmarks.training.case import TOKENS
from benchmarks.training.peer import build_peer
from benchmarks.training.whole_run import CONTEXT, arguments, prepared, write_job

ASKED_SECONDS = 15.0
POLL_SECONDS = 0.005
MARK = "stepped"


def run(options: Options) -> Iterator[Table]:
    """Start both, in turns."""
    with prepared() as folder:
        yield table(beside_trainer(__name__, options.rounds, {"folder": folder}))


def table(measured: Mapping[str, Measured]) -> Table:
    """Seconds of both sides, medians over the rounds; `measured` holds what `timed` gives, by side."""
    rows = [
        {"side": name, "s to the first step's end": f"{one.median():.2f} ± {100 * one.spread():.0f}%"}
        for name, one in measured.items()
    ]
    ours, peer = (measured[name].median() for name in ("headrace", "transformers.Trainer"))
    return Table(
        title="Start-up of a training process",
        rows=rows,
        notes=[
            f"headrace has taken a step of {TOKENS:,} tokens after {ours:.1f} s (asked: {ASKED_SECONDS:g} s), "
            f"{peer / ours:.2f} times as soon.",
            others_note(measured.values()),
        ],
        numbers={name: one.runs for name, one in measured.items()},
    )


def headrace(folder: str) -> dict[str, float]:
    """Seconds of a job on the shards that `prepared` left in `folder`."""
    from headrace.training.logs import LOSS_FILE

    with tempfile.TemporaryDirectory() as place:
        own = Path(place)
        job = write_job(own / "job.json", arguments(Path(folder), own, steps=2, checkpoint_every_steps=2))
        return timed(["headrace.training", str(job)], lambda: any(f.stat().st_size for f in own.rglob(LOSS_FILE)))


def transformers_trainer() -> dict[str, float]:
    """Seconds of `Trainer` on the same model and batch."""
    with tempfile.TemporaryDirectory() as own:
        return timed(["benchmarks.training.startup", own], (Path(own) / MARK).exists)


def timed(module: list[str], stepped: Callable[[], bool]) -> dict[str, float]:
    """Seconds until a process of a module, with its arguments, has taken a step; it is ended then.

    Raises:
        RuntimeError: It ended by itself before.
    """
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *module], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not stepped():
        if process.poll() is not None:
            raise RuntimeError(f"{module[0]} took no step: {(process.communicate()[1] or b'')[-2000:].decode()}")
        time.sleep(POLL_SECONDS)
    seconds = time.perf_counter() - began
    process.kill()
    process.communicate()
    return {"seconds": seconds}


def take_peer_step(folder: str) -> None:
    """Train with `Trainer` in this process, and leave a file once a step is taken."""
    from transformers import TrainerCallback

    class Mark(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            (Path(folder) / MARK).touch()

    build_peer(CONTEXT, 2, folder, Mark(), save_strategy="no").train()


if __name__ == "__main__":
    take_peer_step(*sys.argv[1:])
