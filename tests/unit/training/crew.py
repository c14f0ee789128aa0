"""Workers that train apart in processes of their own, which tests kill, stop and start as the world does."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch.distributed import TCPStore

from headrace.errors import HeadraceError
from headrace.tracking import Tracker
from headrace.training import board, loop, membership
from headrace.training.step import StepResult, take_step
from tests.unit.training.together import context

PATIENCE_SECONDS = 60.0
SLOWLY = "slowly"
"""A file that keeps all workers waiting while it is there."""


def nothing() -> None:
    """What most workers do before they train."""


def work(arguments: dict[str, Any], root: Path, name: str, env: dict[str, str], before: Callable[[], None]) -> None:
    """Train at a pace at which one can be killed; leave a line and the weights of every step, and the last words."""
    os.environ |= env
    membership.SILENCE_SECONDS, board.BEAT_SECONDS = 3.0, 0.1
    before()

    def slowly(model: Any, *given: Any, **more: Any) -> StepResult:
        time.sleep(0.3 if (root / SLOWLY).exists() else 0.02)
        result = take_step(model, *given, **more)
        save_file(dict(model.state_dict()), root / f"{name}-{result.step}.safetensors")
        link = given[4].link
        line = {"pid": os.getpid(), "step": result.step, "rank": link.rank, "world": link.world}
        with (root / f"{name}.jsonl").open("a") as lines:
            lines.write(json.dumps(line) + "\n")
        return result

    loop.take_step = slowly
    try:
        train = loop.train
        train(**arguments, tracker=Tracker())
    except HeadraceError as error:
        (root / f"{name}.error").write_text(str(error))
        sys.exit(error.exit_code)


class Crew:
    """Workers by name, and what they have done."""

    def __init__(self, arguments: dict[str, Any], root: Path) -> None:
        self.store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self.port, self._arguments, self.root = self.store.port, arguments, root
        self.processes: dict[str, Any] = {}

    def start(self, *names: str, beginners: int = 1, patience: int = 10, before: Callable[[], None] = nothing) -> None:
        env = {"HEADRACE_STORE": f"127.0.0.1:{self.port}", "HEADRACE_WORKERS": str(beginners)}
        env["HEADRACE_PATIENCE_SECONDS"] = str(patience)
        for name in names:
            self.processes[name] = context().Process(target=work, args=(self._arguments, self.root, name, env, before))
            self.processes[name].start()

    def lines(self, name: str) -> list[dict[str, int]]:
        path = self.root / f"{name}.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        return [json.loads(line) for line in lines if line.endswith("}")]

    def steps(self, name: str) -> list[int]:
        return [line["step"] for line in self.lines(name)]

    def wait(self, name: str, step: int) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while max(self.steps(name), default=0) < step:
            assert time.monotonic() < deadline
            assert self.processes[name].is_alive()
            time.sleep(0.005)

    @contextmanager
    def slowly(self) -> Iterator[None]:
        """While the block runs, steps take long."""
        (self.root / SLOWLY).touch()
        yield
        (self.root / SLOWLY).unlink()

    def main(self) -> str:
        """Who writes files now."""
        return next(name for name in self.processes if self.lines(name) and self.lines(name)[-1]["rank"] == 0)

    def end(self, *names: str) -> list[int]:
        for name in names:
            self.processes[name].join(PATIENCE_SECONDS)
        return [self.processes[name].exitcode for name in names]

    def said(self, name: str) -> str:
        return (self.root / f"{name}.error").read_text()

    def weights(self, name: str, step: int) -> dict[str, torch.Tensor]:
        return load_file(self.root / f"{name}-{step}.safetensors")

    def same(self, step: int, *names: str) -> bool:
        """Whether the weights of these workers were the same after a step, to the last bit."""
        first, *others = (self.weights(name, step) for name in names)
        return all(torch.equal(first[key], other[key]) for other in others for key in first)


@contextmanager
def crew(arguments: dict[str, Any], root: Path) -> Iterator[Crew]:
    root.mkdir(exist_ok=True)
    those = Crew(arguments, root)
    try:
        yield those
    finally:
        for process in those.processes.values():
            process.kill()
            process.join()
