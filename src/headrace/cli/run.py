"""`headrace run`: a pipeline on this machine."""

import json
import os
import secrets
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from headrace.errors import ConfigError, HeadraceError

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
    from headrace.cli import closing, project, results, runs
    from headrace.cli.stages import Board
    from headrace.tracking import close_pipeline, home, parent_run

    console = Console(file=sys.stdout)  # bound now: KFP prints to a stdout that is exchanged during the run
    with console.status("Reading the recipe"):
        chain = project.load_pipeline(pipeline)
        values = project.load_recipe(recipe, assignments or ())
        arguments = pipeline_arguments(chain, values)
        embedded = project.load("pipelines.embedded")
    run_id = f"{chain.name}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    _become_quiet()
    with console.status("Opening MLflow"):
        runs.close_abandoned(home())
        parent = parent_run(run_id, {"headrace.pipeline": chain.name, "headrace.recipe": recipe})
    board = Board(embedded.planned_stages(chain), console)
    runner = embedded.EmbeddedRun(run_id, board, home(), use_cache=cache)
    outcome = "KILLED"
    began = time.monotonic()
    console.print(f"[bold]{chain.name}[/bold] with recipe [bold]{recipe}[/bold], run {run_id}")
    try:
        with runs.alive(runner.folder), board:
            outcome = "FINISHED" if runner.run(chain, arguments) else "FAILED"
    finally:
        close_pipeline(run_id, outcome)
        about = {"pipeline": chain.name, "recipe": recipe, "arguments": arguments, "status": outcome}
        told = results.collect(run_id, parent, about, board, time.monotonic() - began)
        results.write(told, runner.folder / "result.json", json_file)
    _raise_first_failure(board)
    closing.show(told, values, console)
    return 0


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


def _become_quiet() -> None:
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
