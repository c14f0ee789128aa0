"""The memory this process holds: how much, and whether what is freed stays."""

import ctypes
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
    library = ctypes.CDLL(None)
    if not hasattr(library, "mallopt"):
        return False
    return all(library.mallopt(option, 2**31 - 1) for option in (MAP_THRESHOLD, TRIM_THRESHOLD))


def give_back() -> bool:
    """Return to the system what is free between pieces that are not, which glibc keeps otherwise.

    Returns:
        Whether the C library can; only glibc.
    """
    library = ctypes.CDLL(None)
    if not hasattr(library, "malloc_trim"):
        return False
    library.malloc_trim(0)
    return True
