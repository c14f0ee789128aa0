"""`headrace compile`: the KFP IR of every pipeline, for a cluster."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def compile_pipelines(
    names: Annotated[list[str] | None, typer.Argument(help="Chains to compile; all by default.")] = None,
    output: Annotated[Path, typer.Option(help="Directory for NAME.yaml.")] = Path("build/pipelines"),
) -> None:
    """Write the KFP IR YAML of pipelines."""
    from headrace.cli import project

    chosen = {name: project.load_pipeline(name) for name in names or project.pipeline_names()}
    output.mkdir(parents=True, exist_ok=True)
    compiler, placement = project.load("kfp.compiler").Compiler(), project.load("pipelines.placement")
    for name, chain in chosen.items():
        place = output / f"{name.replace('-', '_')}.yaml"
        compiler.compile(placement.for_cluster(chain), str(place))
        Console().print(f"{chain.name} → {place}", markup=False, soft_wrap=True)
