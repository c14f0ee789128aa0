"""`headrace run`: a pipeline on this machine."""

import contextlib
import json
import os
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.errors import ConfigError, HeadraceError

if TYPE_CHECKING:
    from headrace.cli.stages import Board

SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change one value of the recipe; may be repeated."),
]


def run(
    pipeline: Annotated[str, typer.Argument(help="A chain of pipelines/, such as end_to_end.")],
    recipe: Annotated[str, typer.Option(help="A recipe of pipelines/recipes/.")] = "demo",
    assignments: SetOption = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write what happened to this file.")] = None,
    cache: Annotated[bool, typer.Option("--cache/--no-cache", help="Let verified earlier results answer.")] = True,
) -> int:
    """Run a pipeline on this machine and watch its stages."""
    from headrace.cli import closing

    console = Console(file=sys.stdout)  # bound now: KFP prints to a stdout that is exchanged during the run
    with console.status("Reading the recipe"):
        job = read_job(pipeline, recipe, assignments or ())
    console.print(f"[bold]{job.chain.name}[/bold] with recipe [bold]{recipe}[/bold], run {job.run_id}")
    told, board = carry_out(job, console, json_file, use_cache=cache)
    _raise_first_failure(board)
    closing.show(told, job.recipe, console)
    return 0


@dataclass(frozen=True, slots=True)
class Job:
    """What one run of a pipeline is."""

    chain: Any
    recipe: Any
    recipe_name: str
    arguments: dict[str, Any]
    run_id: str


def read_job(pipeline: str, recipe: str, assignments: Sequence[str]) -> Job:
    """Find the chain and the recipe and check that they fit, before anything runs.

    Raises:
        ConfigError: A name, section, key or value that is unknown or of the wrong type, or a policy that asks for
            what the chain does not show.
    """
    from headrace.cli import project
    from headrace.cli.evidence import require_evidence

    chain = project.load_pipeline(pipeline)
    values = project.load_recipe(recipe, assignments)
    require_evidence(chain, values)
    run_id = f"{chain.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    return Job(chain, values, recipe, pipeline_arguments(chain, values), run_id)


def carry_out(job: Job, console: Console, json_file: Path | None, *, use_cache: bool) -> tuple[dict[str, Any], "Board"]:
    """Run a job under its MLflow parent, which is closed and reported on however the run ends.

    Returns:
        What `results.collect` gathered, and the stages.
    """
    from headrace.cli import project, runs
    from headrace.cli.stages import Board
    from headrace.tracking import home, parent_run

    become_quiet()
    if json_file is not None:
        write_json(json_file, {"run_id": job.run_id, "status": "RUNNING"})  # refused now rather than after the run
    embedded = project.load("pipelines.embedded")
    board = Board(embedded.planned_stages(job.chain), console)
    runner = embedded.EmbeddedRun(job.run_id, board, home(), use_cache=use_cache)
    with runs.alive(runner.folder):
        with console.status("Opening MLflow"):
            runs.close_abandoned(home())
            parent = parent_run(job.run_id, {"headrace.pipeline": job.chain.name, "headrace.recipe": job.recipe_name})
        with accounted(job, parent, board, [runner.folder / "result.json", json_file]) as told, board:
            told["status"] = "FINISHED" if runner.run(job.chain, job.arguments) else "FAILED"
    return told, board


@contextlib.contextmanager
def accounted(job: Job, parent: str, board: "Board", places: Sequence[Path | None]) -> Iterator[dict[str, Any]]:
    """Write what a run came to and end its MLflow runs, whether it finished, failed or was interrupted."""
    from headrace.cli import results
    from headrace.tracking import close_pipeline

    told: dict[str, Any] = {"status": "FAILED"}
    began = time.monotonic()
    try:
        yield told
    except KeyboardInterrupt:
        told["status"] = "KILLED"
        raise
    finally:
        about = {"pipeline": job.chain.name, "recipe": job.recipe_name, "arguments": job.arguments}
        about["status"] = told["status"]
        told.update(results.collect(job.run_id, parent, about, board, time.monotonic() - began))
        results.write(told, *places)
        close_pipeline(job.run_id, told["status"])


def pipeline_arguments(chain: Any, recipe: Any) -> dict[str, Any]:
    """Encode those sections of a recipe that a pipeline takes.

    Raises:
        ConfigError: The recipe leaves one of them empty.
    """
    from headrace.config import encode

    wanted = list(chain.pipeline_spec.root.input_definitions.parameters)
    values = encode(recipe)
    for name in wanted:
        if not values.get(name):
            raise ConfigError(f"{chain.name} needs {name!r}, and the recipe has none. Add --set {name}=VALUE.")
    return {name: _given(values[name]) for name in wanted}


def _given(value: Any) -> Any:
    """Leave out what is None: KFP has no such value, and decoding supplies it as the default it is."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item is not None}
    return [_given(item) for item in value] if isinstance(value, list) else value


def become_quiet() -> None:
    """Keep libraries in the tasks from talking to anybody and from burning the machine's other cores."""
    for name, value in (
        ("MLFLOW_DISABLE_TELEMETRY", "true"),
        ("TOKENIZERS_PARALLELISM", "false"),
        ("HF_HUB_DISABLE_PROGRESS_BARS", "1"),
        ("KFP_DISABLE_EXECUTION_CACHING_BY_DEFAULT", "false"),
        # Threads that spin while they wait halve the speed of training on a machine that does anything else.
        ("OMP_WAIT_POLICY", "passive"),
    ):
        os.environ.setdefault(name, value)


def _raise_first_failure(board: Any) -> None:
    """End with the first failed stage's own line and exit code; its log is named under it."""
    for stage in board.failed():
        message = f"{stage.name}: {stage.error.get('message', 'failed')} (log: {stage.log})"
        failure = HeadraceError(message)
        failure.exit_code = int(stage.error.get("exit_code", 1))
        raise failure


def write_json(path: Path, values: Any) -> None:
    """Write JSON for scripts, whole or not at all.

    Raises:
        ConfigError: The file cannot be written there.
    """
    from headrace.storage import write_text

    try:
        write_text(path, json.dumps(values, indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror}). Give another file.") from error
