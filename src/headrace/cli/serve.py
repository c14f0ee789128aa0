"""`headrace serve`: a registered version over HTTP."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def serve(
    reference: Annotated[
        str, typer.Argument(help="NAME@alias, NAME/NUMBER, a checkpoint directory or gs://bucket/prefix.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8080,
) -> None:
    """Answer OpenAI completions and the V2 inference protocol with a promoted version."""
    from headrace import registry, storage
    from headrace.serving.config import ServingConfig
    from headrace.serving.server import serve as serve_checkpoint

    console = Console(stderr=True)
    with console.status(f"Fetching {reference}"):
        if storage.exists(reference):
            path, name, version = reference, Path(reference).name, ""
        else:
            found = registry.resolve(reference)
            path, name, version = str(registry.fetch(found)), found.name, str(found.number)
    serve_checkpoint(path, name, version, ServingConfig(host=host, port=port))
