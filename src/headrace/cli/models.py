"""`headrace models`: what is registered, on what evidence, and who moved it."""

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from headrace.cli import decisions

models = typer.Typer(help="List, show, promote, approve and roll back registered models.", no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@models.command("list")
def list_models(as_json: Json = False) -> None:
    """List every version of every model with its aliases."""
    from headrace import registry

    rows = [_row(version) for name in registry.names() for version in registry.versions(name)]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, header_style="dim")
    for title in ("model", "version", "aliases", "checkpoint", "promoted", "by", "taken back or rejected"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(
            row["name"], str(row["version"]), ", ".join(row["aliases"]), row["checkpoint"][:12],
            row["promoted_at"], escape(row["promoted_by"]), escape(row["rolled_back"] or row["rejected"]),
        )  # fmt: skip
    Console().print(table if rows else "No model is registered yet. A pipeline whose gate passes registers one.")


def _row(version: Any) -> dict[str, Any]:
    from headrace import registry

    return {
        "name": version.name,
        "version": version.number,
        "aliases": list(version.aliases),
        "checkpoint": version.checkpoint,
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(version.created_ms / 1000)),
        "promoted_at": version.tags.get(registry.PROMOTED_AT, ""),
        "promoted_by": version.tags.get(registry.PROMOTED_BY, ""),
        "rolled_back": version.tags.get(registry.ROLLED_BACK, ""),
        "rejected": version.tags.get(registry.REJECTED, ""),
        "run_id": version.run_id,
    }


@models.command()
def show(reference: Annotated[str, typer.Argument(help="NAME@alias or NAME/NUMBER.")], as_json: Json = False) -> None:
    """Show one version, where it comes from and the evidence it was promoted on."""
    from headrace import registry
    from headrace.registry.lineage import TAGS

    version = registry.resolve(reference)
    evidence = json.loads(version.tags.get(registry.EVIDENCE, "{}"))
    lineage = {tag.removeprefix("headrace."): version.tags[tag] for tag in TAGS if tag in version.tags}
    if as_json:
        typer.echo(json.dumps({**_row(version), "lineage": lineage, "evidence": evidence}, indent=1))
        return
    console = Console()
    for key, value in {**_row(version), **lineage}.items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        console.print(f"[dim]{key:<12}[/dim] {escape(shown)}")
    for rule in evidence.get("rules", []):
        mark = "[green]✓[/green]" if rule["passed"] else "[red]✗[/red]"
        console.print(f"{mark} {escape(rule['name'] + ': ' + rule['reason'])}")


@models.command()
def audit(
    name: Annotated[str, typer.Argument(help="The registered model.")],
    settle: Annotated[bool, typer.Option("--settle", help="Let MLflow's aliases and tags follow the trail.")] = False,
    as_json: Json = False,
) -> int:
    """Verify a model's audit trail and print it: who did what, when, why and on what evidence."""
    from headrace import registry
    from headrace.config import encode

    if settle:
        registry.settle(name)
    found = registry.audit(name)
    if as_json:
        typer.echo(json.dumps(encode(found), indent=1))
    else:
        _show_trail(found)
    return 1 if found.differences else 0


def _show_trail(found: Any) -> None:
    table = Table(box=None, header_style="dim")
    for title in ("", "at", "who", "did", "version", "verdict", "why"):
        table.add_column(title)
    for entry in found.entries:
        table.add_row(
            str(entry.number), entry.at, escape(f"{entry.who} ({entry.known_by})"), entry.action, str(entry.version),
            entry.verdict[:12], escape(entry.reason),
        )  # fmt: skip
    console = Console(highlight=False)
    console.print(table)
    for difference in found.differences:
        console.print(f"[yellow]{escape(difference)} --settle mends it.[/yellow]")
    console.print(f"The chain holds. Its head is {found.head or 'nothing yet'}.", soft_wrap=True)


models.command()(decisions.promote)
models.command()(decisions.approve)
models.command()(decisions.reject)
models.command()(decisions.rollback)
