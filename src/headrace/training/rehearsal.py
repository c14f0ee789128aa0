"""A short run in processes of their own, which are killed and started again."""

import multiprocessing
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from headrace.artifacts import MANIFEST
from headrace.errors import HeadraceError, TrainingError
from headrace.tracking import Tracker
from headrace.training.config import TrainConfig
from headrace.training.loop import train
from headrace.training.mirror import MIRROR

SAVES = 6
"""Checkpoints of a short run, about."""
POLL_SECONDS, PAUSE_SECONDS = 0.001, 0.1
Work = Callable[..., object]
"""Trains: `train`, or what stands for it."""


def shortened(config: TrainConfig, steps: int) -> TrainConfig:
    """The first steps of a run, with checkpoints in between and one after the last."""
    every = max(n for n in range(1, max(1, steps // SAVES) + 1) if steps % n == 0)
    guard = replace(config.guard, skips=min(config.guard.skips, steps - 1))
    return replace(config, steps=steps, checkpoint_every_steps=every, log_every_steps=1, guard=guard)


class Rehearsal:
    """One short run under a folder.

    Args:
        folder: Takes its output, workspace and log.
        arguments: Keyword arguments of `train` but for output, workspace and tracker.
        work: What trains.
        processes: That take every step together, and are killed together.
    """

    def __init__(self, folder: Path, arguments: Mapping[str, Any], work: Work = train, processes: int = 1) -> None:
        self.output, self.workspace, self._log = folder / "output", folder / "work", folder / "log.txt"
        folder.mkdir(parents=True)
        self._work, self._processes = work, processes
        self._arguments = {**arguments, "output_uri": str(self.output), "workspace": self.workspace}
        self._reached: Any = None
        self._context = multiprocessing.get_context("forkserver")
        # What every process would import again; the first optimizer imports torch._dynamo, which takes seconds.
        self._context.set_forkserver_preload(["headrace.training.loop", "torch._dynamo"])

    @property
    def home(self) -> Path:
        """Where its checkpoints and logs lie."""
        return next(self.workspace.iterdir())

    def run(self, kills: Sequence[int], told: Callable[[int], None]) -> list[int]:
        """Run to the end, killed at each of some steps on the way and started again.

        Args:
            kills: Steps, rising.
            told: Hears of the step reached.

        Returns:
            The last step taken before each kill.

        Raises:
            TrainingError: The run ended before it could be killed, or failed by itself.
        """
        killed = [self._kill_at(step, told) for step in kills]
        started = self._start()
        while any(process.is_alive() for process in started):
            started[0].join(PAUSE_SECONDS)
            told(self._reached.value)
        self._refuse_failure([process.exitcode for process in started])
        return killed

    def _kill_at(self, step: int, told: Callable[[int], None]) -> int:
        started = self._start()
        while all(process.is_alive() for process in started) and not (self._reached.value >= step and self._saved()):
            time.sleep(POLL_SECONDS)
        for process in started:
            process.kill()
        for process in started:
            process.join()
        if any(process.exitcode != -9 for process in started):
            self._refuse_failure([process.exitcode for process in started if process.exitcode != -9])
            raise TrainingError(f"The run was over before it could be killed at step {step:,}. Give it more steps.")
        reached: int = self._reached.value
        told(reached)
        return reached

    def _saved(self) -> bool:
        """Whether there is a checkpoint to go on from: a run that begins anew proves nothing."""
        return any(self.workspace.glob(f"*/step-????????/{MANIFEST}"))

    def _start(self) -> list[Any]:
        # Without a lock, which a killed process would hold for ever.
        self._reached = self._context.Value("q", 0, lock=False)
        told = (self._work, self._arguments, self._log, self._reached)
        places = [{}] if self._processes == 1 else places_of(self._processes)
        started = [self._context.Process(target=perform, args=(*told, place)) for place in places]
        for process in started:
            process.start()
        return started

    def _refuse_failure(self, codes: Sequence[int | None]) -> None:
        if any(codes):
            said = self._log.read_text().split("\n") if self._log.exists() else []
            last = [line for line in said if line.strip()][-1:] or [
                f"it ended with exit code {max(filter(None, codes))}."
            ]
            raise TrainingError(f"The short run failed: {last[0]}")


def places_of(processes: int) -> list[dict[str, str]]:
    """What torchrun would tell each of so many processes of one machine, at a port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    shared = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]


class Steps(Tracker):
    """Tells another process which step was taken."""

    def __init__(self, reached: Any) -> None:
        self._reached = reached

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Hear of a step."""
        self._reached.value = max(step or 0, self._reached.value)


def perform(
    work: Work, arguments: Mapping[str, Any], log: Path, reached: Any, place: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Train in this process, whose output goes to a file and whose checkpoints to no mirror.

    Args:
        work: What trains.
        arguments: Of it.
        log: Takes all output.
        reached: Is told the step.
        place: Environment that places the process among others.
    """
    os.environ.pop(MIRROR, None)
    os.environ.update(place)
    torch.set_num_threads(max(1, torch.get_num_threads() // int(place.get("WORLD_SIZE", "1"))))
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        work(**arguments, tracker=Steps(reached))
    except HeadraceError as error:
        print(error, file=sys.stderr, flush=True)
        sys.exit(error.exit_code)
