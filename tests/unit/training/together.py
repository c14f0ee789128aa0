"""Functions called in several processes at once, with the environment that torchrun gives."""

import os
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch.distributed as dist

from tests.processes import forkserver, free_port

PATIENCE_SECONDS = 120.0
PRELOADED = [  # the first optimizer imports torch._dynamo, which takes seconds
    "headrace.training.loop",
    "torch._dynamo",
    "torch.distributed.fsdp",
    "torch.distributed.pipelining",
    "torch.distributed.tensor.parallel",
]


def context() -> Any:
    """Makes processes that are forked from one that has imported everything."""
    return forkserver(PRELOADED)


def start(world: int, function: Callable[..., Any], *arguments: Any, env: Mapping[str, str] | None = None) -> list[Any]:
    """Call a function in `world` processes at once; gives the processes."""
    shared = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), **(env or {})}
    processes = [
        context().Process(target=_call, args=({**shared, "RANK": str(rank)}, function, arguments))
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    return processes


def together(world: int, function: Callable[..., Any], *arguments: Any, env: Mapping[str, str] | None = None) -> None:
    """The same, and see each of them end well."""
    processes = start(world, function, *arguments, env=env)
    for process in processes:
        process.join(PATIENCE_SECONDS)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    assert codes == [0] * world


def returned(world: int, function: Callable[..., Any], *arguments: Any) -> list[tuple[Any, ...]]:
    """The same in processes that are joined over gloo; gives the arrays and numbers that each returned, by rank."""
    with tempfile.TemporaryDirectory() as name:
        together(world, _leave, Path(name), function, arguments)
        return [_values(Path(name) / f"{rank}.npz") for rank in range(world)]


def _leave(folder: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    dist.init_process_group("gloo")
    np.savez(folder / f"{dist.get_rank()}.npz", *function(*arguments))
    dist.destroy_process_group()


def _values(file: Path) -> tuple[Any, ...]:
    with np.load(file, allow_pickle=False) as arrays:
        return tuple(array if array.ndim else array.item() for array in map(arrays.get, arrays))


def _call(env: Mapping[str, str], function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ.update(env)
    try:
        function(*arguments)
    except BaseException:
        traceback.print_exc()
        # The others wait for this process; an ordinary exit would wait for them in turn.
        os._exit(1)


def losses(workspace: Path) -> bytes:
    """The one loss log of a workspace."""
    (path,) = workspace.glob("*/losses.jsonl")
    return path.read_bytes()
