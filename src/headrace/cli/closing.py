"""The last screen of a run: what was measured, what was decided, and the commands to look further."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

COLUMNS = {"evaluate base": "base", "evaluate candidate": "candidate", "evaluate-incumbent": "champion before"}
COMMAND = "headrace"
LEFT_OUT = {"exact": "exact duplicates", "near": "near duplicates", "contaminated": "contaminated"}


def show(told: Mapping[str, Any], recipe: Any, console: Console) -> None:
    """Print the results of a finished run; a chain without evaluation or verdict has less to say.

    Args:
        told: What `results.collect` gathered.
        recipe: Its recipe.
        console: Where to print.
    """
    console.print()
    if told["metrics"]:
        console.print(metrics_table(told["metrics"]))
    if told["verdict"]:
        _show_verdict(told["verdict"], console)
    for key, facts in told["facts"].items():
        if key.startswith("deploy/"):
            _show_answers(facts, console)
        if key == "report data/summary":
            _show_data(facts, told["stages"], console)
    _show_cached(told["stages"], console)
    _show_commands(told, recipe, console)


def _show_data(facts: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Sum up what was prepared, and say where the report on it lies."""
    left_out = ", ".join(f"{facts[reason]:,} {word}" for reason, word in LEFT_OUT.items())
    lines = [
        f"{facts['tokens']:,} tokens in {facts['documents']:,} documents are trained on.",
        f"Left out: {left_out}; {facts['quarantined']:,} could not be read.",
        f"{facts['overlapping']:,} overlap with one of {facts['items']:,} evaluation items.",
    ]
    if facts["mixture_off_points"] is not None:
        lines.append(f"Drawn from, the mixture is within {facts['mixture_off_points']:.2f} points of its weights.")
    console.print()
    for line in lines:
        console.print(line, highlight=False)
    (stage,) = (stage for stage in stages if stage["name"] == "report data")
    page = Path(stage["artifacts"]["page"]["uri"])
    near = page.relative_to(Path.cwd()) if page.is_relative_to(Path.cwd()) else page
    console.print(f"The report: {near}", highlight=False, soft_wrap=True, markup=False)


def _show_cached(stages: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Say which of these numbers an earlier run measured."""
    cached = [stage["name"] for stage in stages if stage["state"] == "cached"]
    if cached:
        console.print()
        console.print(
            f"[dim]{len(cached)} of {len(stages)} stages were not run now: what they measured in an earlier run was "
            "verified, file by file, and stands.[/dim]",
            highlight=False,
        )


def metrics_table(metrics: Mapping[str, Mapping[str, Any]]) -> Table:
    """Every metric with its standard error, one column for each checkpoint measured."""
    columns = {stage: COLUMNS.get(stage, stage) for stage, values in metrics.items() if values}
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column("measured on held-out data")
    for title in columns.values():
        table.add_column(title, justify="right")
    for name in dict.fromkeys(name for values in metrics.values() for name in values):
        cells = [_cell(metrics[stage].get(name)) for stage in columns]
        table.add_row(name, *cells)
    return table


def _cell(metric: Mapping[str, Any] | None) -> str:
    if metric is None:
        return ""
    return f"{metric['value']:.4g} ± {metric['stderr']:.2g}"


def _show_verdict(verdict: Mapping[str, Any], console: Console) -> None:
    console.print()
    colour, word = ("green", "passed") if verdict["passed"] else ("red", "did not pass")
    console.print(f"The gate of {verdict['model']}: the candidate [{colour}]{word}[/{colour}].", highlight=False)
    for rule in verdict["rules"]:
        mark = "[green]✓[/green]" if rule["passed"] else "[red]✗[/red]"
        console.print(f"  {mark} {escape(rule['name'] + ': ' + rule['reason'])}", highlight=False)


def _show_answers(endpoint: Mapping[str, Any], console: Console) -> None:
    console.print()
    console.print(
        f"{endpoint['model']} was ready in {endpoint['ready_seconds']:.1f} s and answers in "
        f"{endpoint['latency_ms']:.0f} ms:",
        highlight=False,
    )
    for prompt, answer in endpoint["answers"].items():
        console.print(f"  [dim]{escape(prompt)}[/dim] [bold]{escape(answer.strip())}[/bold]", highlight=False)


def _show_commands(told: Mapping[str, Any], recipe: Any, console: Console) -> None:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("browse this run in MLflow", f"{COMMAND} ui")
    if told["verdict"] and told["verdict"]["passed"]:
        _add_decisions(table, told["facts"].get("promote/version", {}), recipe.model)
    console.print()
    took = f"{told['pipeline']} finished in {told['seconds']:.0f} s."
    console.print(f"{took} From here, with .venv/bin on the PATH:", highlight=False)
    console.print(table)


def _add_decisions(table: Table, version: Mapping[str, Any], name: str) -> None:
    """What a person may do next with what was promoted, or waits to be."""
    if version.get("alias") == "challenger":
        table.add_row("see on what evidence it waits", f"{COMMAND} models show {name}@challenger")
        table.add_row("approve it", f"{COMMAND} models approve {name}/{version['version']} --reason WHY")
        table.add_row("reject it", f"{COMMAND} models reject {name}/{version['version']} --reason WHY")
        return
    table.add_row("see why it was promoted", f"{COMMAND} models show {name}@champion")
    table.add_row("serve it", f"{COMMAND} serve {name}@champion")
    table.add_row("take it back", f"{COMMAND} models rollback {name}")
