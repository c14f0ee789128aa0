"""`headrace plan`: memory, time and cost of a recipe on a slice, before it is submitted."""

import json
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.console import Console
from rich.markup import escape

from headrace.cli.run import SetOption
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from headrace.planner.calibration import Calibration

STAGES = ("pretraining", "ul2", "instruct")


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe of pipelines/recipes/.")] = "",
    slice_name: Annotated[str, typer.Option("--slice", help="Such as h100x8 or v4-256; cpu is this machine.")] = "cpu",
    stage: Annotated[str, typer.Option(help="pretraining, ul2 or instruct; all that the recipe has by default.")] = "",
    assignments: SetOption = None,
    mesh: Annotated[str, typer.Option(help="What HEADRACE_MESH would be: data=4,pipeline=2.")] = "",
    recompute: Annotated[str, typer.Option(help="none, selective or layers; the fastest that fits by default.")] = "",
    attention: Annotated[str, typer.Option(help="sdpa, tiles, flash or math; by the kind of device by default.")] = "",
    utilization: Annotated[float | None, typer.Option(help="Share of the accelerator's peak that is reached.")] = None,
    price: Annotated[float | None, typer.Option(help="Dollars of one device for an hour.")] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Measure this machine first; minutes.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Predict memory, time and cost of a recipe on a slice, and refuse what cannot fit."""
    from headrace.cli import plan_view
    from headrace.cluster.slices import find_slice
    from headrace.planner.advice import assumptions, make_plan
    from headrace.planner.memory import Attention, Recompute
    from headrace.planner.plan import Wishes

    if not recipe and not calibrate:
        raise ConfigError("A plan is of a recipe. Name one, or give --calibrate.")
    where = find_slice(slice_name)
    wishes = Wishes(
        mesh=mesh,
        recompute=_one_of("recompute", recompute, get_args(Recompute)),  # type: ignore[arg-type]
        attention=_one_of("attention", attention, get_args(Attention)),  # type: ignore[arg-type]
        utilization=utilization,
        dollars_per_hour=price,
    )
    stages = read_stages(recipe, stage, assignments or ()) if recipe else {}
    calibration = _calibration(calibrate, quiet=as_json)
    plans = {name: make_plan(train, where, calibration, wishes) for name, train in stages.items()}
    told = {name: assumptions(train, plans[name], calibration, wishes) for name, train in stages.items()}
    if as_json:
        typer.echo(json.dumps(plan_view.encoded(recipe, plans, told), indent=1))
    elif plans:
        plan_view.show(recipe, plans, told)


def read_stages(recipe: str, stage: str, assignments: Any) -> dict[str, Any]:
    """The training stages of a recipe, by name.

    Raises:
        ConfigError: No such recipe, section or stage, or a recipe that trains nothing.
    """
    from headrace.cli import project
    from headrace.config import nearest

    values = project.load_recipe(recipe, assignments)
    found = {name: getattr(values, name) for name in STAGES if getattr(values, name) is not None}
    if not found:
        raise ConfigError(f"The recipe {recipe!r} trains nothing. Name one with {', '.join(STAGES)}.")
    if stage and stage not in found:
        raise ConfigError(f"The recipe {recipe!r} has no stage {stage!r}. {nearest(stage, found)}")
    return {stage: found[stage]} if stage else found


def _one_of(name: str, given: str, choices: tuple[str, ...]) -> str | None:
    """A choice that was made, or None.

    Raises:
        ConfigError: It is none of those there are.
    """
    from headrace.config import nearest

    if given and given not in choices:
        raise ConfigError(f"--{name} {given!r} is not a choice. {nearest(given, choices)}")
    return given or None


def _calibration(measure_first: bool, *, quiet: bool) -> "Calibration | None":
    """What was measured of this machine; measured now where that is asked for."""
    from headrace.mlflow_server import home
    from headrace.planner import calibration as calibrations

    place = home() / calibrations.FILE
    if not measure_first:
        return calibrations.load(place)
    console = Console(stderr=True)
    with console.status("Measuring") as status:
        found = calibrations.calibrate(lambda what: status.update(f"Measuring {what}"))
    calibrations.save(found, place)
    if not quiet:
        console.print(
            f"Calibrated on {found.threads} thread(s): time at most {found.time_error:.0%} and memory at most "
            f"{found.memory_error:.0%} off in the runs it was fitted to. Kept in {escape(str(place))}",
            soft_wrap=True,
        )
    return found
