"""How fast a run computes, as a number of its own and as a share of what its devices can do."""

from headrace.devices import Device
from headrace.training.config import TrainConfig
from headrace.training.work import count_work


class Throughput:
    """Model FLOPs a second and their share of the peak, MFU.

    What is computed again to save memory counts for nothing, positions without a label for as much as others.

    Source: appendix B of PaLM (arXiv:2204.02311).

    Args:
        config: What a step computes.
        device: Of one process.
        devices: How many take a step together.
    """

    def __init__(self, config: TrainConfig, device: Device, devices: int) -> None:
        self._flops, self._device = count_work(config).flops, device
        peak = device.peak_flops(config.precision)
        self._peak = None if peak is None else peak * devices

    def measured(self, steps: int, seconds: float) -> dict[str, float]:
        """Metrics of so many steps that took so long; no MFU and no memory where the device tells nothing of them."""
        rate, held = self._flops * steps / seconds, self._device.peak_memory_bytes()
        told = {"throughput/flops_per_second": rate}
        if held is not None:
            told["memory/peak_bytes"] = float(held)
        if self._peak is not None:
            told["throughput/mfu"] = rate / self._peak
        return told
