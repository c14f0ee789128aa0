"""A run on a slice: what it holds, how long it takes, and what it costs."""

from dataclasses import dataclass, replace

from headrace.cluster.slices import Slice
from headrace.errors import ConfigError
from headrace.planner.calibration import Calibration
from headrace.planner.forecast import Forecast, forecast
from headrace.planner.layout import choose_layout, read_layout
from headrace.planner.memory import Attention, Execution, Memory, Recompute, predict_memory
from headrace.training.config import TrainConfig
from headrace.training.loss import BLOCK_LOGITS

USABLE = 0.94
"""Share of a device's memory that a plan may fill; the rest is the driver's and the allocator's."""
PROCESS_BYTES = {"cpu": 320 * 2**20, "cuda": 600 * 2**20, "xla": 300 * 2**20}
"""Of a process before there is a model, where no calibration says it: assumed for accelerators."""
ATTENTION: dict[str, Attention] = {"cpu": "tiles", "cuda": "sdpa", "xla": "math"}
"""How each kind of device computes attention where nothing else is asked for."""
BLOCKS = {"cpu": 1, "cuda": 1, "xla": 64}
"""How many times `BLOCK_LOGITS` the loss holds: XLA compiles every block by itself, and is given few."""
POLICIES: tuple[Recompute, ...] = ("none", "selective", "layers")
"""From the fastest to the lightest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Wishes:
    """What a plan is told beyond a recipe and a slice; None leaves it to the plan.

    Raises:
        ConfigError: A share that is none, or a negative price.
    """

    mesh: str = ""
    """What `HEADRACE_MESH` would be; empty leaves it to the plan."""
    recompute: Recompute | None = None
    """The fastest that fits, by default."""
    attention: Attention | None = None
    utilization: float | None = None
    """Share of the accelerator's peak to reckon with."""
    dollars_per_hour: float | None = None
    """Of one device."""

    def __post_init__(self) -> None:
        if self.utilization is not None and not 0 < self.utilization <= 1:
            raise ConfigError(f"--utilization {self.utilization} is no share of a peak. Give one above 0, at most 1.")
        if self.dollars_per_hour is not None and self.dollars_per_hour < 0:
            raise ConfigError(f"--price {self.dollars_per_hour} is below 0. Give dollars per device-hour.")


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """One training stage on one slice."""

    where: Slice
    execution: Execution
    memory: Memory
    forecast: Forecast
    dollars_per_hour: float | None

    @property
    def room_bytes(self) -> int:
        """What a run may fill of each device."""
        return int(USABLE * self.where.memory_bytes)

    @property
    def fits(self) -> bool:
        """Whether a device holds it."""
        return self.memory.total <= self.room_bytes

    @property
    def device_hours(self) -> float | None:
        """Of all devices together."""
        seconds = self.forecast.total_seconds
        return None if seconds is None else seconds / 3600 * self.where.devices

    @property
    def dollars(self) -> float | None:
        """What the steps cost."""
        if self.device_hours is None or self.dollars_per_hour is None:
            return None
        return self.device_hours * self.dollars_per_hour


def predict(
    train: TrainConfig, where: Slice, calibration: Calibration | None = None, wishes: Wishes | None = None
) -> Plan:
    """Plan one training stage, whether it fits or not.

    Args:
        train: What is trained.
        where: On what.
        calibration: Of this machine; only its own processor is planned with it.
        wishes: What was asked for besides.

    Raises:
        ConfigError: A layout that does not divide the run or the slice.
    """
    wishes = wishes or Wishes()
    policies = (wishes.recompute,) if wishes.recompute else POLICIES
    plans = [_as_wished(train, where, calibration, wishes, policy) for policy in policies]
    return next((plan for plan in plans if plan.fits), plans[-1])


def _as_wished(
    train: TrainConfig, where: Slice, calibration: Calibration | None, wishes: Wishes, recompute: Recompute
) -> Plan:
    if wishes.attention == "tiles" and where.kind != "cpu":
        raise ConfigError(f"--attention tiles is a CPU's, and {where.name} is none. Give sdpa, flash or math.")
    layout = read_layout(wishes.mesh, train, where) if wishes.mesh else choose_layout(train, where)
    train = replace(train, microbatch_rows=min(train.microbatch_rows, layout.rows(train)))
    execution = Execution(
        layout=layout,
        recompute=recompute,
        attention=wishes.attention or ATTENTION[where.kind],
        block_logits=BLOCKS[where.kind] * BLOCK_LOGITS,
    )
    price = wishes.dollars_per_hour
    if price is None and where.accelerator is not None:
        price = where.accelerator.dollars_per_hour
    memory = predict_memory(train, execution)
    if where.accelerator is None and calibration is not None:
        memory = calibration.apply(memory)
    else:
        memory = replace(memory, baseline=PROCESS_BYTES[where.kind])
    return Plan(
        where=where,
        execution=execution,
        memory=memory,
        forecast=forecast(train, where, execution, calibration, wishes.utilization),
        dollars_per_hour=price,
    )
