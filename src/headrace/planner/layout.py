"""How a slice's devices share a run: replicas, shards of the weights, and parts of the layers."""

import math
from dataclasses import dataclass

from headrace.cluster.slices import Slice
from headrace.config import nearest
from headrace.errors import ConfigError
from headrace.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Degrees whose product is the number of devices.

    Raises:
        ConfigError: A degree below 1.
    """

    data: int = 1
    """Replicas with whole weights each."""
    fsdp: int = 1
    """Replicas that share one copy of weights, gradients and moments."""
    tensor: int = 1
    """Devices that share every product of a layer."""
    pipeline: int = 1
    """Groups of layers, one after the other."""

    def __post_init__(self) -> None:
        for name in ("data", "fsdp", "tensor", "pipeline"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is below 1. Give at least 1.")

    @property
    def devices(self) -> int:
        """How many take part."""
        return self.data * self.fsdp * self.tensor * self.pipeline

    @property
    def replicas(self) -> int:
        """Parts that every batch is cut into."""
        return self.data * self.fsdp

    def __str__(self) -> str:
        """The degrees above 1."""
        named = {"data": self.data, "FSDP": self.fsdp, "tensor": self.tensor, "pipeline": self.pipeline}
        return " × ".join(f"{degree} {name}" for name, degree in named.items() if degree > 1) or "one device"

    def microbatches(self, train: TrainConfig) -> int:
        """Forward passes of each replica in a step."""
        return train.data.rows // self.replicas // train.microbatch_rows


def parse_layout(text: str) -> Layout:
    """A layout such as `data=4,pipeline=2`; what is not named is 1.

    Raises:
        ConfigError: Another axis, or no number.
    """
    degrees = {}
    for pair in text.split(","):
        axis, _, degree = pair.strip().partition("=")
        if axis not in Layout.__dataclass_fields__:
            raise ConfigError(f"--mesh {text!r} has an axis {axis!r}. {nearest(axis, Layout.__dataclass_fields__)}")
        if not degree.isdecimal():
            raise ConfigError(f"--mesh {text!r} has {axis}={degree!r}, which is no number. Write data=4,pipeline=2.")
        degrees[axis] = int(degree)
    return Layout(**degrees)


def choose_layout(train: TrainConfig, where: Slice) -> Layout:
    """As many weight-sharing replicas as the batch has microbatches, and the other devices side by side in each.

    Workers who train apart hold their weights whole.

    Raises:
        ConfigError: The devices cannot be divided so.
    """
    microbatches = train.data.rows // train.microbatch_rows
    replicas = math.gcd(where.devices, microbatches)
    apart = train.averaging.kind != "none"
    layout = Layout(data=where.devices) if apart else Layout(fsdp=replicas, tensor=where.devices // replicas)
    check_layout(layout, train, where)
    return layout


def check_layout(layout: Layout, train: TrainConfig, where: Slice) -> None:
    """Refuse degrees that do not divide what they have to.

    Raises:
        ConfigError: With the numbers, and what would divide.
    """
    rows, model = train.data.rows, train.model
    microbatches = rows // train.microbatch_rows
    if layout.devices != where.devices:
        raise ConfigError(
            f"The layout {layout} takes {layout.devices} devices and {where.name} has {where.devices}. "
            "Give degrees whose product is that."
        )
    if layout.tensor > 1 and layout.pipeline > 1:
        raise ConfigError(f"The layout {layout} has both tensor and pipeline, which no run takes. Leave out one.")
    if train.averaging.kind != "none" and layout.data != layout.devices:
        raise ConfigError(
            f"averaging.kind={train.averaging.kind!r} trains workers apart, each with whole weights, and the layout "
            f"{layout} cuts them. Give data={where.devices}, or averaging.kind=none."
        )
    if microbatches % layout.replicas:
        raise ConfigError(
            f"{layout.replicas} replicas do not divide the {microbatches} microbatches of rows={rows} by "
            f"microbatch_rows={train.microbatch_rows}. Lower train.microbatch_rows or take fewer replicas."
        )
    if model.n_head % layout.tensor:
        raise ConfigError(
            f"{layout.tensor} devices do not divide n_head={model.n_head}: {where.name} has {where.devices} devices "
            f"for {microbatches} microbatches. Lower train.microbatch_rows or take a smaller slice."
        )
    if model.n_layer % layout.pipeline:
        raise ConfigError(f"pipeline={layout.pipeline} does not divide n_layer={model.n_layer}. Give a divisor.")
