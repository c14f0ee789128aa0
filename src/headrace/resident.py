"""How much memory this process holds, asked of the system and of nothing else."""

from pathlib import Path


def peak_bytes() -> int | None:
    """Most that was resident since this program began; None where the system does not tell, as outside Linux.

    `ru_maxrss` would count what the parent held when it started this process.
    """
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    return 1024 * next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
