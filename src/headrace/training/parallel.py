"""Replicas: processes that take every step together, each over rows of its own.

torchrun starts them and its environment says how many there are; nothing in a configuration does. A step
is the same however many take it: labels are counted over all replicas before any loss is divided by them, and
gradients are summed.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import torch.distributed as dist
from torch import Tensor

from headrace.devices import CPU, Device, pick
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Replicas:
    """The place of this process among those that train together."""

    device: Device = CPU
    rank: int = 0
    """Which part of every batch is this one's, from 0."""
    world: int = 1
    """Parts a batch is cut into."""
    mesh: "DeviceMesh | None" = None
    """How the processes are laid out; None where there is one."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints, metrics and progress."""
        return self.mesh is None or dist.get_rank() == 0

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all replicas, on each of them."""
        if self.mesh is None:
            return value
        total = value.detach().clone()
        dist.all_reduce(total, group=self.mesh.get_group("data"))
        return total

    def agree(self, decide: Callable[[], T]) -> T:
        """What `decide` returns in the main process, which alone calls it, in every process."""
        if self.mesh is None:
            return decide()
        decided = [decide() if self.is_main else None]
        dist.broadcast_object_list(decided, src=0)
        return decided[0]  # type: ignore[return-value]

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.mesh is not None:
            dist.barrier()


ALONE = Replicas()
"""One process on the CPU."""


def launch() -> Replicas:
    """The replicas that torchrun started, or this one process on the device picked.

    Raises:
        ConfigError: A number of processes that is none, or a device that is absent.
    """
    device, processes = pick(), os.environ.get("WORLD_SIZE", "1")
    if not processes.isdecimal() or processes == "0":
        raise ConfigError(f"WORLD_SIZE={processes!r} is no number of processes. Let torchrun set it, or unset it.")
    if int(processes) == 1:
        return Replicas(device)
    if device.kind == "xla":
        raise ConfigError(
            f"{processes} processes were started for XLA, where one process drives all devices of a machine. Start one."
        )
    if not dist.is_initialized():
        dist.init_process_group(device.backend)
    return _laid_out(device, int(processes))


def _laid_out(device: Device, processes: int) -> Replicas:
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.kind, (processes,), mesh_dim_names=("data",))
    return Replicas(device, mesh.get_local_rank("data"), processes, mesh)
