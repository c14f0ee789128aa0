"""`headrace models`: what is registered, on what evidence, and taking it back."""

import json
import time
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

models = typer.Typer(help="List, show and roll back registered models.", no_args_is_help=True)
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
    for title in ("model", "version", "aliases", "checkpoint", "promoted", "rolled back"):
        table.add_column(title)
    for row in rows:
        table.add_row(
            row["name"], str(row["version"]), ", ".join(row["aliases"]), row["checkpoint"][:12],
            row["promoted_at"], escape(row["rolled_back"]),
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
        "rolled_back": version.tags.get(registry.ROLLED_BACK, ""),
        "run_id": version.run_id,
    }


@models.command()
def show(reference: Annotated[str, typer.Argument(help="NAME@alias or NAME/NUMBER.")], as_json: Json = False) -> None:
    """Show one version and the evidence it was promoted on."""
    from headrace import registry

    version = registry.resolve(reference)
    evidence = json.loads(version.tags.get(registry.EVIDENCE, "{}"))
    if as_json:
        typer.echo(json.dumps({**_row(version), "evidence": evidence}, indent=1))
        return
    console = Console()
    for key, value in _row(version).items():
        shown = ", ".join(value) if isinstance(value, list) else str(value)
        console.print(f"[dim]{key:<12}[/dim] {escape(shown)}")
    for rule in evidence.get("rules", []):
        mark = "[green]✓[/green]" if rule["passed"] else "[red]✗[/red]"
        console.print(f"{mark} {escape(rule['name'] + ': ' + rule['reason'])}")


@models.command()
def rollback(
    name: Annotated[str, typer.Argument(help="The registered model.")],
    reason: Annotated[str, typer.Option(help="Kept with the version taken back.")] = "",
) -> None:
    """Take the champion back: what it replaced is served again."""
    from headrace import registry

    taken, restored = registry.rollback(name, reason)
    now = f"version {restored.number} is champion again" if restored else "no version is champion now"
    Console().print(f"{name} version {taken.number} was taken back; {now}.")
