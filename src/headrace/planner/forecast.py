"""How long a step takes on a slice, what a run costs, and what was assumed to say so."""

from dataclasses import dataclass

from headrace.cluster.slices import Slice
from headrace.models.size import count_parameters
from headrace.planner.calibration import Calibration
from headrace.planner.memory import FP32, Execution
from headrace.training.config import TrainConfig
from headrace.training.work import StepWork, count_work

TIMES = {"none": 1.0, "selective": 1.05, "layers": 4 / 3}
"""Time of a step by what it computes again: a third more for every forward pass, a little for what is cheap."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Forecast:
    """Times in seconds, of one step and of the whole run; None where a rate is not known."""

    work: StepWork
    step_seconds: float | None
    compute_seconds: float | None
    communication_seconds: float
    """Beside computation, which is assumed to hide it."""
    idle_share: float
    """Of a pipeline that fills and empties."""
    steps: int
    mfu: float | None
    """Model FLOPs as a share of the peak, as this forecast comes out."""

    @property
    def total_seconds(self) -> float | None:
        """Of all steps."""
        return None if self.step_seconds is None else self.steps * self.step_seconds

    @property
    def tokens_per_second(self) -> float | None:
        """Positions, padding included, of all devices together."""
        return None if self.step_seconds is None else self.work.tokens / self.step_seconds


def forecast(
    train: TrainConfig,
    where: Slice,
    execution: Execution,
    calibration: Calibration | None = None,
    utilization: float | None = None,
) -> Forecast:
    """How long the steps of `train` take.

    Args:
        train: What is trained.
        where: On what.
        execution: And how.
        calibration: Of this machine, for its processor.
        utilization: Share of the accelerator's peak to reckon with; the one that was published where None.
    """
    work, communication = count_work(train), _communication_seconds(train, where, execution)
    idle = _idle_share(train, execution)
    compute, peak = None, 0.0
    if where.accelerator is not None:
        peak = where.devices * peak_flops(train, where)
        compute = work.flops / (peak * (utilization or where.accelerator.utilization)) if peak else None
    elif calibration is not None:
        compute = calibration.rates.seconds(train)
    if compute is not None:
        compute *= TIMES[execution.recompute]
    step = None if compute is None else max(compute, communication) / (1 - idle)
    return Forecast(
        work=work,
        step_seconds=step,
        compute_seconds=compute,
        communication_seconds=communication,
        idle_share=idle,
        steps=train.steps,
        mfu=work.flops / peak / step if step and peak else None,
    )


def peak_flops(train: TrainConfig, where: Slice) -> float:
    """Operations a second of one device at most, in the run's precision; 0 where it is not published."""
    assert where.accelerator is not None
    if train.precision == "fp32":
        return where.accelerator.fp32_flops or 0.0
    return where.accelerator.bf16_flops


def _communication_seconds(train: TrainConfig, where: Slice, execution: Execution) -> float:
    """Bytes that a device sends in a step, over its links' published rate."""
    layout = execution.layout
    if where.accelerator is None or where.devices == 1:
        return 0.0
    size = FP32 if train.precision == "fp32" else 2
    held = count_parameters(train.model).total / (layout.tensor * layout.pipeline)
    microbatches = layout.microbatches(train)
    sent = 0.0
    if layout.shards > 1:
        # Weights are gathered for the forward and the backward pass of every microbatch, gradients scattered once.
        share = (layout.shards - 1) / layout.shards
        sent += share * held * (2 * size * microbatches + FP32)
    elif layout.data > 1:
        sent += 2 * (layout.data - 1) / layout.data * held * FP32
    if layout.tensor > 1:
        # Attention and feed-forward are added before they are summed: one sum a layer each way.
        residual = train.microbatch_rows * train.data.context_tokens * train.model.d_model * size
        sums = 2 * train.model.n_layer / layout.pipeline * microbatches
        sent += 2 * (layout.tensor - 1) / layout.tensor * residual * sums
    return sent / where.accelerator.link_bytes_per_second


def _idle_share(train: TrainConfig, execution: Execution) -> float:
    """Share of a step that a stage of the pipeline waits (1F1B)."""
    waiting = execution.layout.pipeline - 1
    return waiting / (execution.layout.microbatches(train) + waiting)
