"""`headrace compare`: whether one report is better than another, metric by metric, on the very same examples."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from headrace.artifacts import EvalReport, Metric
    from headrace.evaluation.compare import Comparison
    from headrace.storage import Stored

CANDIDATE = typer.Argument(metavar="A", help="An evaluation report: a directory, or gs://.")
REFERENCE = typer.Argument(metavar="B", help="The report it is held against.")


def compare(
    a: Annotated[str, CANDIDATE],
    b: Annotated[str, REFERENCE],
    metric: Annotated[
        list[str] | None, typer.Option(help="Compare this metric, such as piqa/acc; all by default.")
    ] = None,
    confidence: Annotated[
        float, typer.Option(help="Share of resamples within the interval.", min=0.5, max=0.9999)
    ] = 0.95,
    resamples: Annotated[int, typer.Option(help="Resamples of the examples.", min=100)] = 10_000,
    seed: Annotated[int, typer.Option(help="Resamples follow from it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Say by paired bootstrap how much better report A is than report B."""
    from headrace import storage
    from headrace.artifacts import EvalReport
    from headrace.evaluation.compare import compare as paired

    left, right = storage.read(a, EvalReport), storage.read(b, EvalReport)
    options: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    found = {name: paired(left, right, name, **options) for name in metric or _shared(left, right)}
    if as_json:
        typer.echo(json.dumps(_values(left, right, found), indent=1))
    else:
        _show(left, right, found, confidence)


def _shared(left: "Stored[EvalReport]", right: "Stored[EvalReport]") -> list[str]:
    """Metrics that both have, in the order of the first.

    Raises:
        MismatchError: There is none.
    """
    from headrace.errors import MismatchError

    shared = [name for name in left.facts.metrics if name in right.facts.metrics]
    if not shared:
        raise MismatchError(f"{left.path} and {right.path} share no metric. Compare reports of the same evaluation.")
    return shared


def _values(left: "Stored[EvalReport]", right: "Stored[EvalReport]", found: dict[str, "Comparison"]) -> dict[str, Any]:
    from headrace.config import encode

    sides = {"a": left.facts, "b": right.facts}
    return {
        **{side: {"checkpoint": facts.checkpoint, "mask": facts.mask} for side, facts in sides.items()},
        "metrics": {
            name: {**{side: encode(facts.metrics[name]) for side, facts in sides.items()}, **encode(comparison)}
            for name, comparison in found.items()
        },
    }


def _show(
    left: "Stored[EvalReport]", right: "Stored[EvalReport]", found: dict[str, "Comparison"], confidence: float
) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for side, report in (("A", left), ("B", right)):
        console.print(f"{side}: {report.facts.checkpoint[:12]} ({report.facts.mask}) {report.path}", markup=False)
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("metric", overflow="fold")  # where there is no room, names give way and numbers stay whole
    for title in ("A", "B", "A's lead", f"{confidence:.4g} interval", "p", "n"):
        table.add_column(title, justify="right", no_wrap=True)
    for name, one in found.items():
        interval = f"{one.low:+.4f} to {one.high:+.4f}"
        values = (_value(report.facts.metrics[name]) for report in (left, right))
        table.add_row(escape(name), *values, _marked(one), interval, f"{one.p_value:.2g}", f"{one.n:,}")
    console.print(table)
    console.print(
        "[dim]Above 0, A is better; perplexities in nats a token. p: how often resamples show no advantage.[/dim]"
    )


def _value(metric: "Metric") -> str:
    return f"{metric.value:.4g} ± {metric.stderr:.2g}"


def _marked(one: "Comparison") -> str:
    """The difference, in colour where its whole interval lies on one side of 0."""
    colour = "green" if one.low > 0 else "red" if one.high < 0 else ""
    text = f"{one.difference:+.4f}"
    return f"[{colour}]{text}[/{colour}]" if colour else text
