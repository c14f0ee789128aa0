"""`headrace verify`: what a run promises, tried out."""

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from headrace.cli.run import SetOption, become_quiet
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from headrace.artifacts import ResumeCertificate
    from headrace.training.config import TrainConfig

STAGES = ("pretraining", "ul2", "instruct")
verify = typer.Typer(help="Try out what a run promises.", no_args_is_help=True)


@verify.callback()
def _group() -> None:
    """Keep `resume` a command of its own though it is the only one."""


@verify.command()
def resume(
    recipe: Annotated[str, typer.Option(help="A recipe of pipelines/recipes/.")] = "demo",
    stage: Annotated[str, typer.Option(help="Its section: pretraining, ul2 or instruct.")] = "pretraining",
    kills: Annotated[int, typer.Option(min=1, help="How often the run is killed.")] = 3,
    steps: Annotated[int, typer.Option(min=4, help="Steps of the short run.")] = 48,
    processes: Annotated[int, typer.Option(min=1, help="Processes that take every step together.")] = 1,
    documents: Annotated[int, typer.Option(min=1, help="Documents to take from each file of the corpus.")] = 2000,
    assignments: SetOption = None,
    output: Annotated[str, typer.Option(help="Where the certificate goes; in HEADRACE_HOME by default.")] = "",
    seed: Annotated[int | None, typer.Option(help="Of the steps to kill at; drawn by default.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")] = False,
) -> int:
    """Kill a short run at random steps, resume it, and compare it bit for bit with one left alone."""
    from headrace.cli import project
    from headrace.tracking import home

    become_quiet()
    loaded = project.load_recipe(recipe, assignments or ())
    config = _stage(loaded, recipe, stage, steps)
    place = output or str(home() / "certificates" / f"{recipe}-{stage}")
    about = {"recipe": recipe, "stage": stage, "kills": kills, "seed": _drawn(seed), "processes": processes}
    manifest = _certify(loaded, config, place, documents, **about)
    facts: ResumeCertificate = manifest.facts
    if as_json:
        typer.echo(json.dumps({**_values(facts), "digest": manifest.digest, "uri": place}, indent=1))
    else:
        _show(facts, place, manifest.digest)
    return 0 if facts.passed else 1


def _stage(loaded: Any, recipe: str, stage: str, steps: int) -> "TrainConfig":
    """The recipe's section, shortened.

    Raises:
        ConfigError: There is none of that name.
    """
    from headrace.training.rehearsal import shortened

    config = getattr(loaded, stage, None) if stage in STAGES else None
    if config is None:
        known = [name for name in STAGES if getattr(loaded, name, None) is not None]
        raise ConfigError(f"Recipe {recipe!r} has no stage {stage!r} to run. Known: {', '.join(known) or 'none'}.")
    return shortened(config, steps)


def _drawn(seed: int | None) -> int:
    return random.SystemRandom().randrange(2**31) if seed is None else seed


def _certify(loaded: Any, config: "TrainConfig", place: str, documents: int, **about: Any) -> Any:
    """Prepare an excerpt of the recipe's data, make both runs on it, and compare them; progress is shown."""
    from headrace.training.certificate import certify

    with Console(stderr=True).status("Preparing data") as status, tempfile.TemporaryDirectory() as folder:
        sources, tokenizer = _prepare(loaded, config, Path(folder), documents)
        arguments = {"sources": sources, "tokenizer_uri": tokenizer, "config": config}

        def told(run: str, logged: int) -> None:
            status.update(f"{run}: step {logged:,}/{config.steps:,}")

        return certify(arguments, place, told=told, **about)


def _prepare(loaded: Any, config: "TrainConfig", folder: Path, documents: int) -> tuple[dict[str, str], str]:
    from headrace.data.excerpt import gather_excerpt

    made_by = _tokenizer(loaded, folder, documents)
    return gather_excerpt(loaded.corpus, config.data.sources, made_by, folder, documents, loaded.shards)


def _tokenizer(loaded: Any, folder: Path, documents: int) -> Callable[[Path, Path], object]:
    """What makes the recipe's tokenizer: its own training, or the model that the recipe begins with.

    Raises:
        ConfigError: The recipe has neither.
    """
    from headrace import registry
    from headrace.data.excerpt import train_excerpt_tokenizer
    from headrace.data.tokenizer import extract_tokenizer

    if loaded.tokenizer is not None:
        return train_excerpt_tokenizer(loaded.tokenizer, documents)
    if not loaded.base:
        raise ConfigError("The recipe has neither a tokenizer nor a base model. Add --set base=NAME@alias.")
    registry.copy_checkpoint(loaded.base, folder / "base")
    return lambda gathered, output: extract_tokenizer(folder / "base", output)


def _values(facts: "ResumeCertificate") -> dict[str, Any]:
    from headrace.config import encode

    values: dict[str, Any] = encode(facts)
    return values


def _show(facts: "ResumeCertificate", place: str, digest: str) -> None:
    console = Console(soft_wrap=True, highlight=False)
    killed = ", ".join(map(str, facts.killed_at))
    console.print(f"{facts.stage} of {facts.recipe}: {facts.steps:,} steps, killed after {killed} and resumed.")
    table = Table(box=None, header_style="dim", pad_edge=False)
    for title in ("compared", "SHA-256 of the undisturbed run", ""):
        table.add_column(title)
    different = [difference.partition(" differ")[0] for difference in facts.differences]
    for name, found in facts.digests.items():
        table.add_row(name, found[:16], "[red]✗[/red]" if name in different else "[green]✓[/green]")
    console.print(table)
    for difference in facts.differences:
        console.print(f"[red]{difference}[/red]")
    word = "[green]equal to the last bit[/green]" if facts.passed else "[red]not the same run[/red]"
    together = "" if facts.processes == 1 else f"{facts.processes} processes of "
    console.print(f"On {together}{facts.device} with torch {facts.torch}: {word}.")
    console.print(f"certificate {digest[:12]} in {place}", markup=False)
