"""Real steps of a configuration in a fresh process: what they hold at most, and how long one takes.

`python -m headrace.planner.measure CONFIG` takes them on random tokens, two documents a row, every position scored,
and prints what it saw as one line of JSON.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import headrace
from headrace import resident
from headrace.config import decode, encode
from headrace.data.batch import Batch
from headrace.errors import TrainingError
from headrace.models.gptj import GPTJ
from headrace.planner.shapes import two_documents
from headrace.training import loop  # noqa: F401  # what a training process has imported belongs to its size
from headrace.training import optimizer as optimizers
from headrace.training.config import TrainConfig
from headrace.training.parallel import ALONE
from headrace.training.sharding import place
from headrace.training.step import take_step

STEPS = 6
"""The allocator's hold grows over the first few steps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a process that took steps came to."""

    peak_bytes: int
    """Most memory resident at one time."""
    wall_seconds: float
    """Of the fastest step but the first."""
    core_seconds: float
    """Of all cores together, in the step that took least of them."""
    threads: int

    @property
    def step_seconds(self) -> float:
        """How long a step takes on cores of its own; other processes lengthen one thread's wall time alone."""
        return self.core_seconds if self.threads == 1 else self.wall_seconds


def measure(train: TrainConfig, steps: int = STEPS) -> Measured:
    """Take steps of `train` in a process of its own.

    Raises:
        TrainingError: The process failed; with the end of what it said.
    """
    command = [sys.executable, "-m", "headrace.planner.measure", json.dumps(encode(train)), str(steps)]
    path = os.pathsep.join([str(Path(headrace.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        said = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise TrainingError(f"The trial steps failed: {said[0]}. Close other programs and run it again.")
    return decode(Measured, json.loads(done.stdout.splitlines()[-1]))


def take_steps(train: TrainConfig, steps: int) -> Measured:
    """Take steps of `train` in this process."""
    draw = np.random.default_rng(0)
    model = place(GPTJ(train.model), ALONE)
    optimizer = optimizers.build(model, train.optimizer)
    walls, cores = [], []
    for step in range(1, steps + 1):
        batch = random_batch(train, draw)
        wall, core = time.perf_counter(), time.process_time()
        take_step(model, optimizer, batch, train, step)
        walls.append(time.perf_counter() - wall)
        cores.append(time.process_time() - core)
    return Measured(
        peak_bytes=_peak_bytes(),
        wall_seconds=min(walls[1:]),
        core_seconds=min(cores[1:]),
        threads=torch.get_num_threads(),
    )


def random_batch(train: TrainConfig, draw: np.random.Generator) -> Batch:
    """Two documents a row, every position scored."""
    shape = train.data.rows, train.data.context_tokens
    tokens_BT, labels_BT = (draw.integers(0, train.model.vocab_size, shape) for _ in range(2))
    return Batch(tokens_BT, labels_BT, two_documents(*shape), np.zeros(shape, bool))


def _peak_bytes() -> int:
    peak = resident.peak_bytes()
    if peak is None:
        raise TrainingError("This system does not tell a process's memory. Calibrate on Linux.")
    return peak


if __name__ == "__main__":
    print(json.dumps(encode(take_steps(decode(TrainConfig, json.loads(sys.argv[1])), int(sys.argv[2])))))
