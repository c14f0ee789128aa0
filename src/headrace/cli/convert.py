"""`headrace convert`: to and from the Hugging Face layout."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console

from headrace.artifacts import MaskContract

if TYPE_CHECKING:
    from headrace.artifacts import EvalReport
    from headrace.registry import Version
    from headrace.storage import Stored

NOTE = (
    "[yellow]note:[/yellow] this model was trained to see its prompt whole. transformers keeps that with "
    "trust_remote_code=True; without it, it runs causally and answers worse than here."
)

convert = typer.Typer(help="Convert checkpoints to and from transformers.", no_args_is_help=True)


@convert.command("export")
def export(
    reference: Annotated[str, typer.Argument(help="A checkpoint directory, NAME@alias or NAME/NUMBER.")],
    directory: Annotated[Path, typer.Argument(help="Where the Hugging Face files go.")],
    report: Annotated[
        list[str] | None,
        typer.Option(help="Its evaluation report; may be given again. A version's own by default."),
    ] = None,
    name: Annotated[str, typer.Option(help="Title of the model card; the directory's name by default.")] = "",
    licence: Annotated[str, typer.Option(help="The Hub's identifier of a licence.")] = "apache-2.0",
    dataset: Annotated[list[str] | None, typer.Option(help="A data set's name on the Hub; may be given again.")] = None,
) -> None:
    """Write a checkpoint as a directory that transformers loads, with its model card."""
    from headrace import registry, storage
    from headrace.evaluation.card import CardConfig, write_card
    from headrace.models.export import save_hf
    from headrace.models.pretrained import load

    version = None if storage.exists(reference) else registry.resolve(reference)
    loaded = load(reference if version is None else registry.fetch(version))
    mask = loaded.checkpoint.facts.mask
    about = CardConfig(name=name or directory.name, licence=licence, datasets=tuple(dataset or ()))
    reports, otherwise = _measured(version, report or [])
    card = write_card(loaded.checkpoint, reports, about, otherwise)
    save_hf(loaded.model, directory, loaded.tokenizer_file, mask=mask, card=card)
    if mask == "prefix":
        Console(stderr=True).print(NOTE)
    Console().print(f"{reference} → {directory}", markup=False, soft_wrap=True)


def _measured(version: "Version | None", uris: list[str]) -> "tuple[list[Stored[EvalReport]], str]":
    """Reports for the card, and what it says where there are none."""
    from headrace import registry, storage
    from headrace.artifacts import EvalReport

    if uris or version is None:
        return [storage.read(uri, EvalReport) for uri in uris], "Nothing was measured."
    with tempfile.TemporaryDirectory(prefix="headrace-verdict-") as folder:
        report = registry.fetch_report(version, Path(folder))
    gone = f"The report that {version.uri} was promoted on is gone, so this card knows no results."
    return [report] if report else [], gone


@convert.command("import")
def import_hf(
    directory: Annotated[Path, typer.Argument(help="A directory with config.json, safetensors and tokenizer.json.")],
    output: Annotated[str, typer.Argument(help="Where the checkpoint goes: a directory or gs://bucket/prefix.")],
    mask: Annotated[str, typer.Option(help="causal or prefix; found out from the directory by default.")] = "",
) -> None:
    """Read a GPT-J or GPT-JT directory as a checkpoint."""
    from headrace.errors import ConfigError
    from headrace.models.imported import import_checkpoint

    if mask not in ("", "causal", "prefix"):
        raise ConfigError(f"--mask {mask!r} is no way to see a prompt. Give causal or prefix.")
    manifest = import_checkpoint(directory, output, cast(MaskContract, mask) if mask else None)
    Console().print(f"{directory} → {output} ({manifest.digest[:12]})", markup=False, soft_wrap=True)
