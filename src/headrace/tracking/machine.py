"""What this machine is doing, as MLflow's own monitors see it."""

import contextlib
from collections.abc import Mapping
from typing import Any


class Machine:
    """Monitors of processors, memory, disk, network and GPUs, made when they are first asked."""

    def __init__(self) -> None:
        self._monitors: list[Any] = []

    def load(self) -> Mapping[str, float]:
        """What is in use since it was last asked, by the names of MLflow's system metrics."""
        self._monitors = self._monitors or _monitors()
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found


def _monitors() -> list[Any]:
    """MLflow's monitors of this machine; that of GPUs refuses to be made where there are none."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):
        monitors.append(GPUMonitor())
    return monitors
