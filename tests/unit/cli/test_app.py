from collections.abc import Iterator
from typing import Any

import pytest
import typer

from headrace import __version__
from headrace.cli import app as module
from headrace.cli.app import app, run_app
from headrace.errors import ConfigError, IntegrityError


def commands(command: Any, path: str = "headrace") -> Iterator[tuple[str, Any]]:
    yield path, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}")


def test_every_command_and_every_option_says_what_it_is() -> None:
    silent = [
        f"{path} {parameter.name}".strip()
        for path, command in commands(typer.main.get_command(app))
        for parameter in (command, *command.params)
        if not parameter.help
    ]
    assert silent == []


@pytest.mark.parametrize("arguments", [[], ["models"], ["convert"]])
def test_a_command_that_needs_another_shows_which_there_are(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(arguments) == 2
    said = capsys.readouterr()
    assert "Usage: " in said.out + said.err
    assert "error:" not in said.out + said.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["models", "lst"], "No such command 'lst'"),
        (["ui", "--prot", "3"], "No such option: --prot"),
        (["serve"], "Missing argument"),
        (["serve", "a@b", "--port", "high"], "Invalid value for '--port'"),
    ],
)
def test_a_mistyped_command_line_is_the_users_mistake_in_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(arguments) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert said.count("\n") == 1
    assert told in said
    assert "bug" not in said


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (ConfigError("x=[/b] is wrong. Give y."), 2, "error: x=[/b] is wrong. Give y.\n"),
        (IntegrityError("a is gone. Make it."), 1, "error: a is gone. Make it.\n"),
        (ValueError("one\ntwo."), 1, "error: ValueError: one two. This is a bug; --debug shows where.\n"),
        (KeyboardInterrupt(), 130, "error: Interrupted. Run the same command again to continue.\n"),
        (typer.Abort(), 130, "error: Interrupted. Run the same command again to continue.\n"),
    ],
)
def test_every_error_is_one_line_and_its_exit_code(
    error: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = typer.Typer()

    @broken.command()
    def fail() -> None:
        raise error

    monkeypatch.delenv("HEADRACE_DEBUG", raising=False)
    monkeypatch.setattr(module, "app", broken)
    assert (run_app([]), capsys.readouterr().err) == (code, told)
    assert run_app(["--debug"]) == code
    assert "Traceback" in capsys.readouterr().err


def test_the_version_is_printed_before_anything_else_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(["--version"]) == 0
    assert capsys.readouterr().out == f"{__version__}\n"
