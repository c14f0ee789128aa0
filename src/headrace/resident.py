"""The memory this process holds: how much, and whether what is freed stays."""

import ctypes
from collections.abc import Callable
from pathlib import Path

TRIM_THRESHOLD, MAP_THRESHOLD = -1, -3
"""M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of glibc's malloc.h."""


def peak_bytes() -> int | None:
    """Most that was resident since this program began; None where the system does not tell, as outside Linux.

    `ru_maxrss` would count what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))


def keep_freed() -> bool:
    """Let what is freed from now on stay with this process, for its next allocation of that size.

    A step of training frees tensors of megabytes and asks for them again at once. glibc gives such memory back,
    and the system clears every page of it anew: 3 to 5 % of a step's time on CPUs.

    Returns:
        Whether the C library can; only glibc.
    """
    set_option = _of_c_library("mallopt")
    return set_option is not None and all(set_option(option, 2**31 - 1) for option in (MAP_THRESHOLD, TRIM_THRESHOLD))


def give_back() -> bool:
    """Return to the system what is free between pieces that are not, which glibc keeps otherwise.

    Returns:
        Whether the C library can; only glibc.
    """
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)
    return trim is not None


def _of_c_library(name: str) -> Callable[..., int] | None:
    """A function of the C library, if it has it."""
    return getattr(ctypes.CDLL(None), name, None)
