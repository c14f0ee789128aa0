"""What the numbers were taken on."""

import datetime
import importlib.metadata
import os
import platform
import re
import time
from pathlib import Path

PACKAGES = ("gigatoken", "tokenizers", "datasets", "transformers", "lm_eval", "zstandard", "orjson", "numpy", "torch")


def describe_machine() -> dict[str, object]:
    """Date (UTC), processor, cores that this process may use, memory in GiB, system, Python and packages.

    What cannot be found out is None.
    """
    cpu = re.search(r"model name\s*: (.*)", _read("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+) kB", _read("/proc/meminfo"))
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu": cpu[1] if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def busy_seconds() -> float:
    """Core-seconds that all processes of the machine have used since it started."""
    first = _read("/proc/stat").split("\n", 1)[0].split()[1:]
    user, nice, system, _, _, irq, softirq, steal = map(int, first[:8])
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def now() -> tuple[float, float]:
    """Wall clock and core-seconds of the machine, to be subtracted."""
    return time.perf_counter(), busy_seconds()


def _read(path: str) -> str:
    return Path(path).read_text() if Path(path).exists() else ""


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
