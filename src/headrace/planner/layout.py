"""How a slice's devices share a run: replicas, shards of the weights, and parts of the layers."""

import math
from dataclasses import dataclass

from headrace.cluster.slices import Slice
from headrace.data.loader import own_rows
from headrace.errors import ConfigError
from headrace.training.config import TrainConfig
from headrace.training.mesh import (
    AXES,
    XLA_AXES,
    check_apart,
    check_matrices,
    check_microbatches,
    check_stages,
    mesh_shape,
)

MESH = "--mesh"


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Degrees whose product is the number of devices, as `HEADRACE_MESH` has them.

    Raises:
        ConfigError: A degree below 1.
    """

    data: int = 1
    """Replicas, each with rows of its own."""
    tensor: int = 1
    """Devices that share every product of a layer."""
    pipeline: int = 1
    """Groups of layers, one after the other."""
    apart: bool = False
    """Whether each replica holds whole weights; else they share one copy of weights, gradients and moments (FSDP)."""

    def __post_init__(self) -> None:
        for name in AXES:
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is below 1. Give at least 1.")

    @property
    def shards(self) -> int:
        """Replicas among which one copy of the weights is divided."""
        return 1 if self.apart else self.data

    def __str__(self) -> str:
        """The degrees above 1, as `HEADRACE_MESH` takes them."""
        named = {axis: getattr(self, axis) for axis in AXES}
        return ",".join(f"{axis}={degree}" for axis, degree in named.items() if degree > 1) or "one device"

    def rows(self, train: TrainConfig) -> int:
        """Rows that each replica takes of a step."""
        return train.data.rows // self.data

    def microbatches(self, train: TrainConfig) -> int:
        """Forward passes of each replica in a step; the last may be of fewer rows."""
        return math.ceil(self.rows(train) / train.microbatch_rows)


def choose_layout(train: TrainConfig, where: Slice) -> Layout:
    """As many weight-sharing replicas as the batch has microbatches, and the other devices side by side in each.

    Workers who train apart hold their weights whole.

    Raises:
        ConfigError: The devices cannot be divided so.
    """
    apart = train.averaging.kind != "none"
    microbatches = train.data.rows // train.microbatch_rows
    replicas = where.devices if apart else math.gcd(where.devices, microbatches)
    layout = Layout(data=replicas, tensor=where.devices // replicas, apart=apart)
    if train.model.n_head % layout.tensor:
        raise ConfigError(
            f"{layout.tensor} devices do not divide n_head={train.model.n_head}: {where.name} has {where.devices} "
            f"devices for {microbatches} microbatches. Lower train.microbatch_rows or take a smaller slice."
        )
    check_layout(layout, train)
    return layout


def read_layout(mesh: str, train: TrainConfig, where: Slice) -> Layout:
    """The layout that a run on the slice would have under `HEADRACE_MESH`.

    Raises:
        ConfigError: As the run would.
    """
    axes = XLA_AXES if where.kind == "xla" else AXES
    layout = Layout(**mesh_shape(mesh, where.devices, axes, named=MESH), apart=train.averaging.kind != "none")
    check_layout(layout, train)
    return layout


def check_layout(layout: Layout, train: TrainConfig) -> None:
    """Refuse degrees that do not divide what they have to.

    Raises:
        ConfigError: With the numbers, and what would divide.
    """
    if layout.apart:
        check_apart({"tensor": layout.tensor, "pipeline": layout.pipeline}, MESH)
    own_rows(train.data.rows, 0, layout.data)
    check_matrices(train.model, layout.tensor, MESH)
    check_stages(train.model, layout.pipeline, MESH)
    if layout.pipeline > 1:
        check_microbatches(layout.rows(train), train.microbatch_rows, layout.pipeline)
