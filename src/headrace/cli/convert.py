"""`headrace convert`: to and from the Hugging Face layout."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

convert = typer.Typer(help="Convert checkpoints to and from transformers.", no_args_is_help=True)


@convert.command("export")
def export(
    reference: Annotated[str, typer.Argument(help="A checkpoint directory, NAME@alias or NAME/NUMBER.")],
    directory: Annotated[Path, typer.Argument(help="Where the Hugging Face files go.")],
) -> None:
    """Write a checkpoint as a directory that transformers loads."""
    from headrace import registry, storage
    from headrace.artifacts import TOKENIZER_FILE
    from headrace.models.convert import save_hf
    from headrace.models.pretrained import load

    path = Path(reference) if storage.exists(reference) else registry.fetch(registry.resolve(reference))
    loaded = load(path)
    save_hf(loaded.model, directory, path / TOKENIZER_FILE)
    if loaded.checkpoint.facts.mask == "prefix":
        Console(stderr=True).print(
            "[yellow]note:[/yellow] this model was trained with a bidirectional prompt, which plain transformers "
            "runs causally; its answers there are worse than here."
        )
    Console().print(f"{reference} → {directory}")


@convert.command("import")
def import_hf(
    directory: Annotated[Path, typer.Argument(help="A directory with config.json, safetensors and tokenizer.json.")],
    output: Annotated[Path, typer.Argument(help="Where the checkpoint goes.")],
    mask: Annotated[str, typer.Option(help="How it sees its prompt: causal (GPT-J) or prefix (GPT-JT).")] = "causal",
) -> None:
    """Read a GPT-J or GPT-JT directory as a checkpoint."""
    from headrace.models.imported import import_checkpoint

    manifest = import_checkpoint(directory, output, mask)
    Console().print(f"{directory} → {output} ({manifest.digest[:12]})")
