"""Slices by name: how many devices of which kind, or this machine's processor.

A GPU slice is named for its devices (`h100x8`). A TPU slice bears Google's name: the number counts chips in `v5e-8`
and `v6e-8`, and TensorCores, of which a chip has two, in `v3-256`, `v4-32` and `v5p-8`.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from headrace.cluster.accelerators import A100, GIB, H100, H200, L4, V3_CORE, V4, V5E, V5P, V6E, Accelerator
from headrace.config import nearest
from headrace.errors import ConfigError

CPU = "cpu"
GPUS = {"h100": H100, "h200": H200, "a100": A100, "l4": L4}
TPUS = {
    # Google's number of a slice, and how many of them make one device.
    "v3": (V3_CORE, 1, (8, 32, 128, 256, 512)),
    "v4": (V4, 2, (8, 16, 32, 64, 128, 256, 512)),
    "v5e": (V5E, 1, (1, 4, 8, 16, 32, 64, 128, 256)),
    "v5p": (V5P, 2, (8, 16, 32, 64, 128, 256, 512)),
    "v6e": (V6E, 1, (1, 4, 8, 16, 32, 64, 128, 256)),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """Devices that train together."""

    name: str
    devices: int
    memory_bytes: int
    """Of each device."""
    accelerator: Accelerator | None
    """None where the device is this machine's processor, whose speed is measured."""
    cores: int = 0
    """Of this machine, where it is the device."""

    @property
    def kind(self) -> str:
        """`cpu`, `cuda` or `xla`."""
        return CPU if self.accelerator is None else self.accelerator.kind

    @property
    def title(self) -> str:
        """What it is, in words."""
        if self.accelerator is None:
            return f"this machine: {self.cores} cores, {self.memory_bytes / GIB:.1f} GiB"
        return f"{self.devices} × {self.accelerator.title}"


def _tabulate() -> dict[str, Slice]:
    counted = [(f"{name}x{n}", n, one) for name, one in GPUS.items() for n in (1, 4, 8)]
    counted += [(f"{name}-{n}", n // per, one) for name, (one, per, sizes) in TPUS.items() for n in sizes]
    return {
        name: Slice(name=name, devices=n, memory_bytes=int(one.memory_gib * GIB), accelerator=one)
        for name, n, one in counted
    }


SLICES = _tabulate()
"""Every accelerator slice by name."""


def find_slice(name: str) -> Slice:
    """The slice of that name; `cpu` is this machine.

    Raises:
        ConfigError: There is none; the message names the nearest.
    """
    wanted = name.strip().lower()
    if wanted == CPU:
        return this_machine()
    if wanted not in SLICES:
        raise ConfigError(f"There is no slice {name!r}. {nearest(wanted, [CPU, *SLICES])}")
    return SLICES[wanted]


def this_machine() -> Slice:
    """The processor this runs on, with the memory its control group may use."""
    cores = len(os.sched_getaffinity(0))
    return Slice(name=CPU, devices=1, memory_bytes=_memory_bytes(), accelerator=None, cores=cores)


def processor() -> str:
    """The name of this machine's processor."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found[1].strip() if found else "unknown"


def _memory_bytes() -> int:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return min(whole, int(text)) if text.isdecimal() else whole
