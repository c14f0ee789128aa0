"""The command tree, and what becomes of an error: one line, an exit code, a traceback only on request."""

import os
import signal
import traceback
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape

from headrace import __version__
from headrace.cli.compare import compare
from headrace.cli.compile import compile_pipelines
from headrace.cli.convert import convert
from headrace.cli.data import data
from headrace.cli.models import models
from headrace.cli.plan import plan
from headrace.cli.run import run
from headrace.cli.serve import serve
from headrace.cli.ui import dashboard, ui
from headrace.cli.verify import verify
from headrace.errors import HeadraceError

INTERRUPTED = 130
# Typer brings a click of its own in some releases and takes the installed one in others.
CommandLineError: Any = next(cls for cls in typer.BadParameter.__mro__ if cls.__name__ == "ClickException")

app = typer.Typer(
    name="headrace",
    help="Text to a promoted, served model: run pipelines, promote by evidence, serve.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(run)
app.command("compile")(compile_pipelines)
app.command()(plan)
app.add_typer(models, name="models")
app.command()(compare)
app.command()(serve)
app.add_typer(data, name="data")
app.add_typer(convert, name="convert")
app.add_typer(verify, name="verify")
app.command()(ui)
app.command()(dashboard)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def options(
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
    version: bool = typer.Option(
        False, "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
    ),
) -> None:
    """Take the options that stand before the command."""


def run_app(arguments: list[str]) -> int:
    """Run one command line.

    Args:
        arguments: Without the program's name. `--debug` may stand anywhere.

    Returns:
        The exit code.
    """
    debug = "--debug" in arguments or bool(os.environ.get("HEADRACE_DEBUG"))
    kept = [argument for argument in arguments if argument != "--debug"]
    # A terminated run ends as an interrupted one does: its processes are stopped and its MLflow runs closed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = _code(app(kept, standalone_mode=False))
        if code != INTERRUPTED:
            return code
        raise KeyboardInterrupt  # which typer has turned into a number
    except HeadraceError as error:
        return _refuse(str(error), error.exit_code, debug)
    except CommandLineError as error:
        said = error.format_message()
        return _refuse(said, error.exit_code, debug) if said else int(error.exit_code)  # help was shown already
    except (KeyboardInterrupt, typer.Abort):
        return _refuse("Interrupted. Run the same command again to continue.", INTERRUPTED, debug)
    except Exception as error:
        said = str(error).rstrip(".")
        return _refuse(f"{type(error).__name__}: {said}. This is a bug; --debug shows where.", 1, debug)


def _code(result: Any) -> int:
    return result if isinstance(result, int) else 0


def _refuse(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    line = " ".join(message.splitlines()) or "failed without a reason"
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[red]error:[/red] {escape(line)}")
    return code
