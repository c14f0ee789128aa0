"""Workers that die and come late, under torchrun's elastic agents: each agent here stands for a machine."""

import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from headrace import storage
from headrace.checkpoints import CheckpointPolicy
from headrace.tracking import Tracker
from headrace.training import loop
from headrace.training.averaging import AveragingConfig
from headrace.training.loop import train
from headrace.training.step import StepResult, take_step
from tests.unit.training.together import context, losses, together

STEPS, EVERY, WAITING, PATIENCE_SECONDS = 50, 5, 25, 90.0


def machine(arguments: dict[str, Any], port: int, root: Path) -> None:
    """What `torchrun --nnodes 1:3 --nproc-per-node 1` does on one machine, in a process group of its own."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.setpgid(0, 0)
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"  # as docs/placement.md tells to
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=3,
        nproc_per_node=1,
        run_id="trial",
        rdzv_backend="c10d",
        rdzv_endpoint=f"127.0.0.1:{port}",
        # Two heartbeats may lie two seconds apart; who misses as many as these allow is taken for dead.
        rdzv_configs={
            "is_host": "0",
            "last_call_timeout": "2",
            "keep_alive_interval": "1",
            "keep_alive_max_attempt": "5",
        },
        max_restarts=100,
        monitor_interval=0.05,
        start_method="fork",
        local_addr="127.0.0.1",
        logs_specs=DefaultLogsSpecs(log_dir=str(root / "logs")),
    )
    elastic_launch(config, worker)(arguments, root / "workers.jsonl")


def worker(arguments: dict[str, Any], file: Path) -> None:
    """Train after a line that says who this is; with a third machine missing, wait for it at some step."""
    place = {"rank": int(os.environ["RANK"]), "world": int(os.environ["WORLD_SIZE"]), "group": os.getpgid(0)}
    with file.open("a") as lines:
        lines.write(json.dumps(place) + "\n")

    def slowly(*given: Any, **more: Any) -> StepResult:
        time.sleep(1.0 if place["world"] < 3 and given[4] > WAITING else 0.03)
        return take_step(*given, **more)

    loop.take_step = slowly
    undisturbed(arguments)


def undisturbed(arguments: dict[str, Any]) -> None:
    train(**arguments, tracker=Tracker())


class Machines:
    """Those that take part, and what they have done."""

    def __init__(self, arguments: dict[str, Any], root: Path) -> None:
        # Rendezvous is kept by none of them, so that any may die.
        self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        self._arguments, self._root = arguments, root
        self.started: list[Any] = []

    def start(self) -> None:
        process = context().Process(target=machine, args=(self._arguments, self._store.port, self._root))
        process.start()
        self.started.append(process)

    def workers(self, world: int) -> list[dict[str, int]]:
        """Workers that were started in a world of this size, in the order they came."""
        path = self._root / "workers.jsonl"
        lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [line for line in lines if line["world"] == world]

    def steps(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self._root.glob("work/*/losses.jsonl"))


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def machines(arguments: dict[str, Any], root: Path) -> Iterator[Machines]:
    together = Machines(arguments, root)
    try:
        yield together
    finally:
        for process in together.started:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.join()


def test_a_machine_that_dies_is_done_without_and_a_late_one_is_taken_in(tiny, tmp_path: Path) -> None:
    config = replace(
        tiny.with_data(rows=12),
        steps=STEPS,
        checkpoint_every_steps=EVERY,
        checkpoints=CheckpointPolicy(every_steps=EVERY),
        averaging=AveragingConfig(kind="diloco", synchronous_steps=2, every_steps=3),
    )
    with machines(tiny.arguments(tmp_path / "out", tmp_path / "work", config=config), tmp_path) as those:
        for _ in range(3):
            those.start()
        wait(lambda: len(those.workers(3)) >= 3 and those.steps() >= 2 * EVERY + 2)
        *_, main = (worker["group"] for worker in those.workers(3) if worker["rank"] == 0)
        before = len(those.workers(2))
        os.killpg(main, signal.SIGKILL)
        wait(lambda: len(those.workers(2)) >= before + 2 and those.steps() >= WAITING)
        those.start()
        for process in those.started:
            process.join(PATIENCE_SECONDS)
        assert sorted(process.exitcode for process in those.started) == [-9, 0, 0, 0]
    taken = [json.loads(line) for line in losses(tmp_path / "work").splitlines()]
    assert [line["step"] for line in taken] == list(range(1, STEPS + 1))
    assert all(math.isfinite(line["loss"]) for line in taken)
    saved = {path.parent.name for path in tmp_path.glob("work/*/step-*/worker-00002.safetensors")}
    alone = {path.name for path in tmp_path.glob("work/*/step-*")} - saved
    assert "step-00000020" in alone  # of two workers, between one's death and another's coming
    assert {"step-00000010", f"step-{STEPS:08d}"} <= saved
    together(3, undisturbed, tiny.arguments(tmp_path / "calm", tmp_path / "calm-work", config=config))
    loss, calm = (storage.read_manifest(tmp_path / name).facts.loss for name in ("out", "calm"))
    assert loss == pytest.approx(calm, rel=0.03)
