"""What a run on several processes leaves, to be held against what one leaves."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from headrace import storage
from headrace.errors import ConfigError
from headrace.tracking import Tracker
from headrace.training.config import TrainConfig
from headrace.training.loop import train
from tests.unit.training.together import losses, together


@dataclass(frozen=True)
class Trained:
    """What a run left."""

    out: Path
    work: Path

    def steps(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in losses(self.work).splitlines()]

    def tensors(self, name: str, step: int) -> dict[str, torch.Tensor]:
        (path,) = self.work.glob(f"*/step-{step:08d}/{name}")
        return load_file(path)


def run(mesh: str, tiny, config: TrainConfig, root: Path, work: Path | None = None, recompute: str = "") -> Trained:
    """Train on a mesh such as `data=2,tensor=2`."""
    trained = Trained(root / "out", work or root / "work")
    arguments = tiny.arguments(trained.out, trained.work, config=config)
    world = math.prod(int(axis.partition("=")[2]) for axis in mesh.split(","))
    if world == 1:
        train(**arguments, tracker=Tracker())
    else:
        together(world, in_one_of_several, arguments, env={"HEADRACE_MESH": mesh, "HEADRACE_RECOMPUTE": recompute})
    return trained


def in_one_of_several(arguments) -> None:
    manifest = train(**arguments, tracker=Tracker())
    assert manifest.digest == storage.read_manifest(arguments["output_uri"]).digest


def agree(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-5, atol=1e-5, msg=name)


def refused(arguments, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(**arguments, tracker=Tracker())
    # Rows are shared out alike everywhere, so that every process is refused and none is left waiting.
    torch.distributed.barrier()
    os._exit(0)
