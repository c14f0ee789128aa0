"""Which attention a training run takes: what suits its device, or what the environment asks for."""

from typing import Literal, cast, get_args

from headrace import config
from headrace.devices import Device
from headrace.errors import ConfigError

Attention = Literal["dense", "blocks", "tiles"]
"""torch's own, under a mask written out as a matrix; by blocks, on GPUs; by tiles, on CPUs."""

VARIABLE = "HEADRACE_ATTENTION"
SUITED: dict[str, Attention] = {"cpu": "tiles", "cuda": "blocks", "xla": "dense"}
"""By the kind of device."""


def asked(device: Device) -> Attention:
    """The attention that the environment names; where it names none, what suits the device.

    Raises:
        ConfigError: There is no such attention, or not on this device.
    """
    kind = config.asked(VARIABLE, get_args(Attention), SUITED[device.kind], "attention")
    if kind not in ("dense", SUITED[device.kind]):
        suited = next(name for name, one in SUITED.items() if one == kind)
        raise ConfigError(
            f"{VARIABLE}={kind}, which knows its gradient on the device {suited} alone, and this one is {device.kind}. "
            f"Unset it, or set HEADRACE_DEVICE={suited}."
        )
    return cast(Attention, kind)
