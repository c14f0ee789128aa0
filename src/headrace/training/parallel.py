"""Replicas: groups of processes that take every step together, each over rows of its own.

torchrun starts the processes and its environment says how many there are; nothing in a configuration does. A step
is the same however many take it: labels are counted over all replicas before any loss is divided by them, and
gradients are summed. Replicas that train apart (`averaging.py`) take steps of their own between exchanges, and where
`HEADRACE_STORE` is set they need no torchrun: they find one another there, and come and go.

`HEADRACE_MESH` lays the processes out. `data=4,tensor=2` makes four replicas of eight processes, and the two of
each cut its matrices between them; with `data=4,pipeline=2` they have half of its layers each. Without it every
process is a replica.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
import torch.distributed as dist
from torch import Tensor

from headrace.data.batch import TensorBatch
from headrace.devices import CPU, Device, XlaMesh, pick, xla_devices
from headrace.errors import ConfigError
from headrace.training.link import Link
from headrace.training.membership import STORE, WORKERS, Membership
from headrace.training.mesh import AXES, MESH, XLA_AXES, check_apart, mesh_shape

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

PATIENCE = "HEADRACE_PATIENCE_SECONDS"
"""How long a process waits for the others before it fails, torch's 30 minutes where it is not set; before it goes on
without them, where workers come and go, and then 5 minutes."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """The place of this process among those that train together.

    The processes of one replica have the same rank and read the same rows.
    """

    device: Device = CPU
    rank: int = 0
    """Which part of every batch is this one's, from 0."""
    world: int = 1
    """Parts a batch is cut into."""
    mesh: "DeviceMesh | None" = None
    """How the processes are laid out; None where there is one."""
    spmd: XlaMesh | None = None
    """How the devices are laid out that one process drives, on XLA."""
    link: Link | None = None
    """How processes that hold whole weights, each its own, reach one another; None where FSDP shares one model out."""

    @property
    def is_main(self) -> bool:
        """Whether this process writes checkpoints, metrics and progress; those apart may change places."""
        if self.link is not None:
            return self.link.rank == 0
        return self.mesh is None or dist.get_rank() == 0

    @property
    def stages(self) -> "DeviceMesh | None":
        """The processes that have this replica's layers one after another; None where each has all."""
        stages = None if self.mesh is None else self.mesh["pipeline"]
        return None if stages is None or stages.size() == 1 else stages

    def put(self, batch: TensorBatch) -> TensorBatch:
        """Bring a microbatch to the device, or its rows to as many devices as there are replicas within XLA."""
        placed = batch.to(self.device.torch)
        if self.spmd is not None:
            for tensor in placed.tensors():
                self.spmd.spread(tensor, "data", None)
        return placed

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all replicas that share a model, on each of them."""
        if self.mesh is None:
            return value
        total = value.detach().clone()
        dist.all_reduce(total, group=self.mesh.get_group("data"))
        return total

    def any(self, here: bool) -> bool:
        """Whether something holds in any process, told to all: a signal reaches each at a time of its own."""
        if self.mesh is None:
            return here
        found = torch.tensor(int(here))
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return bool(found)

    def agree(self, decide: Callable[[], str]) -> str:
        """What `decide` returns in the main process, which alone calls it, in every process."""
        if self.link is not None:
            return self.link.agree(decide)
        if self.mesh is None:
            return decide()
        decided = [decide() if self.is_main else ""]
        dist.broadcast_object_list(decided, src=0)
        return decided[0]

    def apart(self) -> "Replicas":
        """The same processes, each of which holds the whole model and moves it by itself.

        Raises:
            ConfigError: XLA drives the devices, or several processes share a model's layers.
        """
        if self.spmd is not None:
            raise ConfigError(
                "train.averaging is for workers in processes of their own, and one process drives all devices of XLA. "
                "Set averaging.kind=none or another HEADRACE_DEVICE."
            )
        if self.mesh is not None:
            check_apart({axis: self.mesh[axis].size() for axis in AXES})
        return self if self.link is not None else replace(self, link=Link())


ALONE = Replicas()
"""One process on the CPU."""


def launch() -> Replicas:
    """The replicas that torchrun started, or this one process on the device picked.

    Raises:
        ConfigError: A number of processes that is none, a mesh that they do not fill, a device that is absent, a
            patience that is no time, or workers that are to come and go and that torchrun counts.
    """
    device, processes = pick(), os.environ.get("WORLD_SIZE", "1")
    if STORE in os.environ:
        return Replicas(device, link=Link(_coming_and_going(device)))
    if not processes.isdecimal() or processes == "0":
        raise ConfigError(f"WORLD_SIZE={processes!r} is no number of processes. Let torchrun set it, or unset it.")
    if device.kind == "xla" and int(processes) > 1:
        raise ConfigError(
            f"{processes} processes were started for XLA, where one process drives all devices of a machine. Start one."
        )
    layout = os.environ.get(MESH, "")
    if device.kind == "xla":
        return Replicas(device, spmd=XlaMesh(mesh_shape(layout, xla_devices(), XLA_AXES)))
    shape = mesh_shape(layout, int(processes))
    if int(processes) == 1:
        return Replicas(device)
    if not dist.is_initialized():
        _join(device.backend, patience(os.environ.get(PATIENCE, "")))
    return _laid_out(device, shape)


def _join(backend: str, timeout: timedelta | None) -> None:
    """Meet the other processes that torchrun started.

    The agent keeps one store for all attempts (torch 2.13 does by default), in which the addresses of processes that
    died are still to be found: each attempt has names of its own there. The count of attempts is every agent's own,
    so that several agents need stores of their own for each (`TORCH_DISABLE_SHARE_RDZV_TCP_STORE`).
    """
    from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]

    kept = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True" and os.environ["GROUP_WORLD_SIZE"] == "1"
    if not kept:
        dist.init_process_group(backend, timeout=timeout)
        return
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), world, is_master=False)
    attempt = PrefixStore(f"attempt_{os.environ['TORCHELASTIC_RESTART_COUNT']}", store)
    dist.init_process_group(backend, store=attempt, rank=rank, world_size=world, timeout=timeout)


def _coming_and_going(device: Device) -> Membership:
    if (processes := os.environ.get("WORLD_SIZE", "1")) != "1" or device.kind == "xla":
        raise ConfigError(
            f"{STORE} is set, and torchrun or XLA laid out the processes (WORLD_SIZE={processes}, {device.kind}). "
            f"Start each worker by itself, or unset {STORE}."
        )
    workers = os.environ.get(WORKERS, "1")
    if not workers.isdecimal() or workers == "0":
        raise ConfigError(f"{WORKERS}={workers!r} is no number of workers to begin with. Set 1 or more, or unset it.")
    return Membership(os.environ[STORE], int(workers), patience(os.environ.get(PATIENCE, "")))


def patience(text: str) -> timedelta | None:
    """Seconds as a time; None for an empty text.

    Raises:
        ConfigError: No whole number above 0.
    """
    if not text:
        return None
    if not text.isdecimal() or int(text) == 0:
        raise ConfigError(f"{PATIENCE}={text!r} is no time to wait. Set whole seconds, 1 or more, or unset it.")
    return timedelta(seconds=int(text))


def _laid_out(device: Device, shape: dict[str, int]) -> Replicas:
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.kind, tuple(shape.values()), mesh_dim_names=tuple(shape))
    return Replicas(device, mesh.get_local_rank("data"), shape["data"], mesh)
