"""Checkpoints of workers that train apart: each one's own weights, moments and averaging state, and the means of all.

The means are what every other checkpoint consists of: `model.safetensors` and `optimizer.safetensors`, which can be
evaluated, and `averaging.safetensors` beside them. Each worker goes on from its own `worker-NNNNN.safetensors`, to
the last bit, where there are as many workers as there were. Any other number goes on from the means: that is what the
workers had learned together, control variates sum to zero again, and what is equal on all workers stays as it was
but for rounding.

Workers send theirs to the main one, which writes them all. A checkpoint therefore takes room and memory for three
copies and more of the weights per worker there, and sends as much: save every some hundred steps over a slow link.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from headrace import checkpoints
from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE
from headrace.training.link import Link

AVERAGING_FILE = "averaging.safetensors"


class WorkerState(NamedTuple):
    """What one worker goes on from, by name."""

    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    """Empty before the first step that was not skipped."""
    averaging: Mapping[str, Tensor]


def file_of(rank: int) -> str:
    """What a worker's own file is called."""
    return f"worker-{rank:05d}.safetensors"


def collect(own: WorkerState, link: Link) -> tuple[WorkerState, dict[str, dict[str, Tensor]]]:
    """Means over all workers and every worker's tensors by file, for the main one; the others are given nothing.

    All must call it together, and are given it together: a checkpoint is of those who are there when it is complete.
    What it returns lies in memory of its own, on the CPU.
    """
    files: dict[str, dict[str, Tensor]] = {}
    means: dict[str, dict[str, Tensor]] = {part: {} for part in WorkerState._fields}
    names = [(part, name) for part, tensors in own._asdict().items() for name in tensors]
    for (part, name), found in zip(names, link.collect([own._asdict()[p][n] for p, n in names]), strict=True):
        for rank, one in enumerate(found):
            files.setdefault(file_of(rank), {})[f"{part}/{name}"] = one
        if found:
            means[part][name] = mean_of(found)
    return WorkerState(**means), files | {AVERAGING_FILE: means["averaging"]}


def read(path: Path, rank: int, workers: int) -> WorkerState:
    """What worker `rank` of `workers` goes on from: its own, or the means where there were not as many.

    Args:
        path: A checkpoint that `find_latest` found whole.
    """
    if len(list(path.glob("worker-*.safetensors"))) != workers:
        means = (checkpoints.read_tensors(path, name) for name in (MODEL_FILE, OPTIMIZER_FILE, AVERAGING_FILE))
        return WorkerState(*means)
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in WorkerState._fields}
    for name, tensor in checkpoints.read_tensors(path, file_of(rank)).items():
        part, _, inner = name.partition("/")
        parts[part][inner] = tensor
    return WorkerState(**parts)


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    """The mean of one tensor over workers, exactly the tensor itself where it is the same on all."""
    first = tensors[0]
    if all(torch.equal(first, tensor) for tensor in tensors[1:]):
        return first.clone()
    return torch.stack(list(tensors)).mean(0)
