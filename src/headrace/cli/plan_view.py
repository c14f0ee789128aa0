"""A plan as bars and sentences for people, and as JSON values for scripts."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.config import encode
from headrace.durations import duration
from headrace.planner.plan import Plan

GIB = 2**30
BAR_CELLS = 32
DAY = 86_400


def encoded(recipe: str, plans: dict[str, Plan], told: dict[str, list[str]]) -> dict[str, Any]:
    """Everything of the plans as JSON values."""
    stages = {name: _facts(one) | {"assumptions": told[name]} for name, one in plans.items()}
    totals = {key: _sum(stage[key] for stage in stages.values()) for key in ("seconds", "flops", "tokens", "dollars")}
    return {"recipe": recipe, "stages": stages, "total": totals}


def _facts(one: Plan) -> dict[str, Any]:
    forecast = one.forecast
    return {
        "slice": one.where.name,
        "devices": one.where.devices,
        "execution": encode(one.execution),
        "memory_bytes": one.memory.parts() | {"total": one.memory.total, "of": one.where.memory_bytes},
        "step_seconds": forecast.step_seconds,
        "communication_seconds": forecast.communication_seconds,
        "tokens_per_second": forecast.tokens_per_second,
        "mfu": forecast.mfu,
        "steps": forecast.steps,
        "tokens": forecast.steps * forecast.work.tokens,
        "flops": forecast.steps * forecast.work.flops,
        "seconds": forecast.total_seconds,
        "device_hours": one.device_hours,
        "dollars_per_device_hour": one.dollars_per_hour,
        "dollars": one.dollars,
    }


def _sum(values: Any) -> Any:
    """Their sum; None where one is unknown."""
    known = list(values)
    return None if not known or None in known else sum(known)


def show(recipe: str, plans: dict[str, Plan], told: dict[str, list[str]]) -> None:
    """Print plans for a person: bars, times, costs, and what all of it stands on."""
    console = Console()
    for name, one in plans.items():
        console.print(f"[bold]{escape(recipe)} · {name}[/bold] on {one.where.name}: {one.where.title}", soft_wrap=True)
        how = f"{one.execution.layout}, {one.execution.attention} attention, recompute: {one.execution.recompute}"
        console.print(f"[dim]{how}[/dim]\n")
        console.print(memory_table(one))
        console.print()
        console.print(_line(one), soft_wrap=True, highlight=False)
        console.print()
    facts = [_facts(one) for one in plans.values()]
    if len(plans) > 1:
        seconds, dollars = (_sum(fact[key] for fact in facts) for key in ("seconds", "dollars"))
        console.print(f"[bold]all stages[/bold]: {_time(seconds)}{_cost(dollars)}\n", highlight=False)
    for sentence in dict.fromkeys(sentence for sentences in told.values() for sentence in sentences):
        console.print(f"[dim]· {escape(sentence)}[/dim]", highlight=False)


def memory_table(one: Plan) -> Table:
    """What a device holds, part by part, as bars that add up to the device."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    table.add_column("one device")
    table.add_column("GiB", justify="right")
    table.add_column("")
    before = 0
    for part, size in one.memory.parts().items():
        if size:
            start, stop = (round(BAR_CELLS * min(1, edge / one.where.memory_bytes)) for edge in (before, before + size))
            bar = f"[dim]{'·' * start}[/dim][cyan]{'█' * (stop - start)}[/cyan][dim]{'·' * (BAR_CELLS - stop)}[/dim]"
            table.add_row(part, f"{size / GIB:,.2f}", bar)
            before += size
    share = one.memory.total / one.where.memory_bytes
    table.add_row(
        "[bold]all[/bold]", f"{one.memory.total / GIB:,.2f}", f"{share:.0%} of {one.where.memory_bytes / GIB:,.1f}"
    )
    return table


def _line(one: Plan) -> str:
    forecast = one.forecast
    if forecast.step_seconds is None or forecast.tokens_per_second is None:
        return f"{forecast.steps:,} steps of {forecast.work.flops:.3g} FLOPs; how long they take is not known"
    reached = "" if forecast.mfu is None else f" · MFU {forecast.mfu:.0%}"
    return (
        f"step {_time(forecast.step_seconds)} · {forecast.tokens_per_second:,.0f} tokens/s{reached} · "
        f"{forecast.steps:,} steps: [bold]{_time(forecast.total_seconds)}[/bold]{_cost(one.dollars)}"
    )


def _time(seconds: float | None) -> str:
    """As a reader would say it."""
    if seconds is None:
        return "unknown"
    if seconds < 60:
        return f"{seconds:.3g} s"
    return duration(seconds) if seconds < 2 * DAY else f"{seconds / DAY:,.1f} days"


def _cost(dollars: float | None) -> str:
    return "" if dollars is None else f" · ${dollars:,.0f}"
