"""Real processes that train together over gloo on this machine."""

import multiprocessing
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

PATIENCE_SECONDS = 120.0


def together(world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Call `function(*arguments)` on each of `world` workers; gives what they returned, by rank."""
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        folder, context = Path(name), multiprocessing.get_context("forkserver")
        # The first optimizer imports torch._dynamo, which takes seconds.
        context.set_forkserver_preload(["headrace.training.loop", "torch._dynamo", "torch.distributed"])
        workers = [
            context.Process(target=_work, args=(rank, world, folder, function, arguments)) for rank in range(world)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(PATIENCE_SECONDS)
            assert worker.exitcode == 0
        return [torch.load(folder / str(rank), weights_only=False) for rank in range(world)]


def _work(rank: int, world: int, folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world)
    torch.save(function(*arguments), folder / str(rank))
    dist.destroy_process_group()
