"""`headrace convert`: to and from the Hugging Face layout."""

from pathlib import Path
from typing import Annotated, cast

import typer
from rich.console import Console

from headrace.artifacts import MaskContract

convert = typer.Typer(help="Convert checkpoints to and from transformers.", no_args_is_help=True)


@convert.command("export")
def export(
    reference: Annotated[str, typer.Argument(help="A checkpoint directory, NAME@alias or NAME/NUMBER.")],
    directory: Annotated[Path, typer.Argument(help="Where the Hugging Face files go.")],
) -> None:
    """Write a checkpoint as a directory that transformers loads."""
    from headrace import registry, storage
    from headrace.models.export import save_hf
    from headrace.models.pretrained import load

    path = reference if storage.exists(reference) else registry.fetch(registry.resolve(reference))
    loaded = load(path)
    mask = loaded.checkpoint.facts.mask
    save_hf(loaded.model, directory, loaded.tokenizer_file, mask=mask)
    if mask == "prefix":
        Console(stderr=True).print(
            "[yellow]note:[/yellow] this model was trained to see its prompt whole. transformers keeps that with "
            "trust_remote_code=True; without it, it runs causally and answers worse than here."
        )
    Console().print(f"{reference} → {directory}", markup=False, soft_wrap=True)


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
