"""What a plan stands on, and what would fit where it does not."""

from collections.abc import Iterator
from dataclasses import replace

from headrace.cluster.accelerators import GIB
from headrace.cluster.slices import SLICES, Slice
from headrace.errors import ConfigError
from headrace.planner.calibration import Calibration
from headrace.planner.forecast import peak_flops
from headrace.planner.plan import POLICIES, USABLE, Plan, Wishes, predict
from headrace.training.config import TrainConfig


def make_plan(
    train: TrainConfig, where: Slice, calibration: Calibration | None = None, wishes: Wishes | None = None
) -> Plan:
    """Plan one training stage, or refuse it.

    Raises:
        ConfigError: A layout that does not divide the run, or a run that no device of the slice can hold; the
            message says what would fit.
    """
    wishes = wishes or Wishes()
    plan = predict(train, where, calibration, wishes)
    if plan.fits:
        return plan
    fitting = list(_what_fits(train, plan, calibration, wishes))
    advice = f"It fits with {', or '.join(fitting)}." if fitting else "Configure a smaller model."
    raise ConfigError(
        f"The run takes {plan.memory.total / GIB:,.1f} GiB on each device of {where.name}, and {USABLE:.0%} of its "
        f"{where.memory_bytes / GIB:,.1f} GiB may be filled. {advice}"
    )


def _what_fits(train: TrainConfig, plan: Plan, calibration: Calibration | None, wishes: Wishes) -> Iterator[str]:
    """Changes after which the run fits, the smallest first."""
    for policy in POLICIES:
        if wishes.recompute is not None and _fits(train, plan.where, calibration, replace(wishes, recompute=policy)):
            yield f"--recompute {policy}"
            break
    smaller = [rows for rows in range(train.microbatch_rows - 1, 0, -1) if train.data.rows % rows == 0]
    for rows in smaller:
        if _fits(replace(train, microbatch_rows=rows), plan.where, calibration, wishes):
            yield f"train.microbatch_rows={rows}"
            break
    by_size = sorted(SLICES.values(), key=lambda one: (one.devices, one.memory_bytes))
    anywhere = replace(wishes, mesh="")
    larger = next((one.name for one in by_size if _fits(train, one, calibration, anywhere)), None)
    if larger is not None:
        yield f"--slice {larger}"


def _fits(train: TrainConfig, where: Slice, calibration: Calibration | None, wishes: Wishes) -> bool:
    try:
        return predict(train, where, calibration, wishes).fits
    except ConfigError:
        return False


def assumptions(train: TrainConfig, plan: Plan, calibration: Calibration | None, wishes: Wishes) -> list[str]:
    """What the figures of a plan stand on, a sentence each."""
    told = ["Rows are full and every position is scored; reading, checkpoints and start-up are left out."]
    if plan.execution.recompute != "none":
        told.append(f"Layers compute again what they do not keep: HEADRACE_RECOMPUTE={plan.execution.recompute}.")
    if plan.where.accelerator is None:
        if plan.execution.attention == "tiles":
            told.append("A row has two documents, which attention's tiles tell apart.")
        return [*told, *_of_this_machine(calibration, wishes)]
    return [*told, *_of_accelerator(train, plan, wishes)]


def _of_this_machine(calibration: Calibration | None, wishes: Wishes) -> Iterator[str]:
    if calibration is None:
        yield "No time and no allocator: this machine is not calibrated. Run `headrace plan --calibrate` once."
    else:
        yield (
            f"Rates and memory were fitted on {calibration.date} to runs on {calibration.threads} thread(s) of this "
            f"machine, at most {calibration.time_error:.0%} and {calibration.memory_error:.0%} off."
        )
    yield "No price is known of this machine; give --price." if wishes.dollars_per_hour is None else "--price is yours."


def _of_accelerator(train: TrainConfig, plan: Plan, wishes: Wishes) -> Iterator[str]:
    device, execution = plan.where.accelerator, plan.execution
    assert device is not None
    yield "Memory and time of accelerators are computed; this project has not measured them."
    yield {
        "flash": "Attention is a fused kernel without a written-out mask.",
        "sdpa": "Attention's mask is written out once for all heads.",
        "math": "Attention's scores are kept for the backward pass.",
    }[execution.attention]
    peak = peak_flops(train, plan.where)
    if not peak:
        yield f"No time: the {train.precision} rate of {device.title} is not published."
    else:
        share = wishes.utilization or device.utilization
        source = "as given" if wishes.utilization else device.utilization_source
        yield f"{share:.0%} of {peak / 1e12:,.0f} TFLOP/s a device, {source}. --utilization changes it."
    yield "Communication is hidden behind computation as far as it is shorter."
    if wishes.dollars_per_hour is not None:
        yield f"${wishes.dollars_per_hour:,.2f} a device-hour, as given."
    elif device.dollars_per_hour is not None:
        yield f"${device.dollars_per_hour:,.2f} a device-hour: {device.price_source}. --price changes it."
