"""`headrace data`: what a checkpoint was trained on, document by document."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from headrace.data.ledger import Ledger, Record

data = typer.Typer(help="Look into training data.", no_args_is_help=True)


@data.callback()
def _group() -> None:
    """Keep `trace` a command of its own though it is the only one."""


@data.command()
def trace(
    checkpoint: Annotated[str, typer.Option(help="A checkpoint directory, NAME@alias or NAME/NUMBER.")],
    step: Annotated[int | None, typer.Option(help="List the documents of this step.")] = None,
    document: Annotated[str, typer.Option(help="List the steps that were fed this document, FILE:LINE.")] = "",
    shards: Annotated[list[str] | None, typer.Option(help="Check these token shards against the record.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> None:
    """Tell from a checkpoint's ledger which documents a step was fed, or which steps a document."""
    from headrace.errors import ConfigError

    if (step is None) == (not document):
        raise ConfigError("A trace is of a step or of a document. Give one of --step and --document.")
    ledger = _open(checkpoint)
    for uri in shards or []:
        _check_shards(ledger, uri)
    if step is not None and not 1 <= step <= ledger.steps:
        raise ConfigError(f"--step {step} is not in the ledger of {checkpoint}. Give one from 1 to {ledger.steps:,}.")
    records = ledger.of_document(document) if step is None else ledger.of_step(step)
    if as_json:
        typer.echo(json.dumps([record._asdict() for record in records], indent=1))
        return
    _show(records, f"step {step:,}" if step is not None else document, ledger.steps)


def _open(reference: str) -> "Ledger":
    """The ledger of a checkpoint, after its bytes and its chain were checked.

    Raises:
        IntegrityError: It is missing or altered, or names other shards than the checkpoint's manifest.
    """
    from headrace import buckets, registry, storage
    from headrace.artifacts import LEDGER_FILE, Checkpoint, Manifest
    from headrace.data.ledger import Ledger
    from headrace.errors import IntegrityError

    place = reference if storage.exists(reference) or buckets.is_bucket(reference) else None
    if place is None:
        place = str(registry.fetch(registry.resolve(reference)))
    # Weights need not be hashed to read what was recorded beside them.
    stored = storage.read(place, Checkpoint, verify=False)
    entry = stored.manifest.files.get(LEDGER_FILE)
    if entry is None:
        raise IntegrityError(f"{reference} has no {LEDGER_FILE}: it was not trained by this version. Give another.")
    alone = Manifest(facts=stored.facts, files={LEDGER_FILE: entry}, parents=stored.manifest.parents)
    storage.check(stored.path, alone)
    ledger = Ledger(stored.path / LEDGER_FILE)
    for name, digest in ledger.header.shards.items():
        if stored.manifest.parents.get(f"shards_{name}") != digest:
            raise IntegrityError(
                f"The ledger of {reference} is of other shards {name!r} ({digest[:12]}) than its manifest names. "
                "Take another copy of the checkpoint."
            )
    return ledger


def _check_shards(ledger: "Ledger", uri: str) -> None:
    """Hash shards and find them in the ledger.

    Raises:
        IntegrityError: They were changed, or are not the ones recorded.
    """
    from headrace import storage
    from headrace.artifacts import TokenShards
    from headrace.errors import IntegrityError

    digest = storage.read(uri, TokenShards).digest
    if digest not in ledger.header.shards.values():
        recorded = ", ".join(f"{name} {known[:12]}" for name, known in ledger.header.shards.items())
        raise IntegrityError(
            f"{uri} is {digest[:12]}, and the checkpoint was trained on {recorded}. Give the shards of the run."
        )


def _show(records: "Sequence[Record]", about: str, steps: int) -> None:
    console = Console()
    if not records:
        console.print(f"None of {steps:,} steps was fed {escape(about)}.", soft_wrap=True)
        return
    table = Table(box=None, header_style="dim")
    for title in ("step", "row", "source", "tokens", "document"):
        table.add_column(title, justify="right" if title in ("step", "row", "tokens") else "left", overflow="fold")
    for record in records:
        span = f"{record.start:,}–{record.stop:,}"
        table.add_row(f"{record.step:,}", str(record.row), escape(record.source), span, escape(record.document))
    console.print(table)
    documents, tokens = len({record.document for record in records}), sum(r.stop - r.start for r in records)
    seen = len({record.step for record in records})
    console.print(f"[dim]{documents:,} documents, {tokens:,} tokens, {seen:,} of {steps:,} steps[/dim]")
