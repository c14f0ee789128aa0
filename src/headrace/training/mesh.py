"""How processes or devices are laid out: what `HEADRACE_MESH` says of a run, and `--mesh` of a plan."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from headrace.errors import ConfigError

if TYPE_CHECKING:
    from headrace.models.gptj import GPTJConfig

MESH = "HEADRACE_MESH"
AXES = ("data", "pipeline", "tensor")
"""The innermost last: its processes are neighbours and have the most to say to each other."""
XLA_AXES = ("data", "tensor")
"""Those over which XLA cuts tensors."""


def mesh_shape(text: str, processes: int, axes: Sequence[str] = AXES, *, named: str = MESH) -> dict[str, int]:
    """How many processes stand along each axis, given a layout such as `data=4,tensor=2`.

    An axis that is left out has one, but for `data`, which takes what the others leave.

    Args:
        text: The layout.
        processes: How many there are, or devices of XLA.
        axes: Those that may be named.
        named: Where the text was given, for the errors.

    Raises:
        ConfigError: No such axis, no such number, an axis named twice, stages of which each would cut its matrices
            too, or a layout that the processes do not fill.
    """
    given = _degrees(text, axes, named)
    if given.get("pipeline", 1) > 1 and given.get("tensor", 1) > 1:
        raise ConfigError(f"{named}={text!r} has both pipeline and tensor, which do not go together. Leave out one.")
    inner = math.prod(size for axis, size in given.items() if axis != "data")
    shape = {axis: given.get(axis, max(1, processes // inner) if axis == "data" else 1) for axis in axes}
    if math.prod(shape.values()) != processes:
        raise ConfigError(
            f"{named}={text!r} lays out {math.prod(shape.values())} processes or XLA devices, and there are "
            f"{processes}. Start as many as it needs, or change it."
        )
    return shape


def _degrees(text: str, axes: Sequence[str], named: str) -> dict[str, int]:
    given: dict[str, int] = {}
    for pair in filter(None, map(str.strip, text.split(","))):
        axis, _, size = pair.partition("=")
        if axis not in axes or not size.isdecimal() or int(size) == 0:
            raise ConfigError(
                f"{named}={text!r} has {axis}={size}, and an axis is one of {', '.join(axes)} with a number "
                "of processes. Write it like data=4,tensor=2."
            )
        if axis in given:
            raise ConfigError(f"{named}={text!r} has {axis} twice. Leave out one.")
        given[axis] = int(size)
    return given


def check_apart(shape: Mapping[str, int], named: str = MESH) -> None:
    """Refuse to cut the model of workers who train apart.

    Raises:
        ConfigError: Several processes share one's layers or matrices.
    """
    for axis in AXES[1:]:
        if (size := shape.get(axis, 1)) > 1:
            raise ConfigError(
                f"{named} has {axis}={size}, and with train.averaging every process holds the whole model. "
                f"Set averaging.kind=none, or leave {axis} out of {named}."
            )


def check_matrices(config: "GPTJConfig", processes: int, named: str = MESH) -> None:
    """Refuse processes that cannot share a layer's matrices.

    Raises:
        ConfigError: Heads or inner units that they cannot share evenly.
    """
    for name in ("n_head", "d_ff"):
        if getattr(config, name) % processes:
            raise ConfigError(
                f"tensor={processes} processes cannot share model.{name}={getattr(config, name)} evenly. "
                f"Choose a divisor of it in {named}."
            )


def check_stages(config: "GPTJConfig", stages: int, named: str = MESH) -> None:
    """Refuse stages that cannot share the layers.

    Raises:
        ConfigError: They cannot share them evenly.
    """
    if config.n_layer % stages:
        raise ConfigError(
            f"pipeline={stages} stages cannot share model.n_layer={config.n_layer} evenly. "
            f"Choose a divisor of it in {named}."
        )


def check_microbatches(rows: int, microbatch_rows: int, stages: int) -> None:
    """Refuse a replica whose rows do not keep its stages busy.

    Raises:
        ConfigError: Fewer microbatches than stages, or rows that do not make up microbatches.
    """
    if rows % microbatch_rows or rows // microbatch_rows < stages:
        raise ConfigError(
            f"A replica's {rows} rows are no {stages} microbatches or more of microbatch_rows={microbatch_rows}, "
            f"and pipeline={stages} stages need as many. Lower train.microbatch_rows."
        )
