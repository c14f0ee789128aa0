"""What README and docs tell people to type exists, and so does what they point to."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from headrace.cli import project
from headrace.cli.app import app
from tests.project import ROOT, enter

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
README = "\n".join(path.read_text() for path in DOCUMENTS)
BLOCKS = re.findall(r"^```sh\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
CELLS = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.DOTALL | re.MULTILINE))


def typed() -> Iterator[list[str]]:
    """The words of every command line in blocks and in running text."""
    lines = [line for block in BLOCKS for line in block.replace("\\\n", " ").splitlines()]
    for line in [*lines, *CELLS]:
        if re.match(r"(\.venv/bin/)?(headrace|make) ", line):
            yield shlex.split(line, comments=True)


HEADRACE = [words[1:] for words in typed() if words[0].endswith("headrace")]
MAKE = sorted({target for words in typed() if words[0] == "make" for target in words[1:] if "=" not in target})


def parsed(words: list[str]) -> tuple[str, dict[str, Any]]:
    """The path of the command that `words` call, and its values; the parser refuses what is not offered."""
    command, path = typer.main.get_command(app), ["headrace"]
    while inner := getattr(command, "commands", {}).get(words[0] if words else ""):
        command, path, words = inner, [*path, words[0]], words[1:]
    assert not getattr(command, "commands", {}), f"{' '.join(path)} has no command {words[:1]}"
    return " ".join(path), command.make_context(" ".join(path), list(words)).params


def test_something_is_told() -> None:
    assert len(HEADRACE) >= 5
    assert {"demo", "test"} <= set(MAKE)


@pytest.mark.parametrize("words", HEADRACE, ids=" ".join)
def test_every_headrace_command_has_that_form(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, values = parsed(words)
    if path == "headrace run":
        enter(ROOT, monkeypatch)
        assert values["pipeline"].replace("-", "_") in project.pipeline_names()
        project.load_recipe(values["recipe"], values["assignments"] or ())


@pytest.mark.parametrize("words", [["run"], ["run", "end_to_end", "--jsn", "x"], ["model", "list"], ["models"]])
def test_a_command_that_does_not_exist_would_be_found(words: list[str]) -> None:
    with pytest.raises((AssertionError, typer.BadParameter.__mro__[1])):
        parsed(words)


@pytest.mark.parametrize("target", MAKE)
def test_every_make_target_exists(target: str) -> None:
    assert re.search(rf"^{re.escape(target)}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_pointed_to_exists(document: Path) -> None:
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text())}
    links = {link for link in links if link and not re.match(r"[a-z]+:", link)}
    assert [name for name in sorted(links) if not (document.parent / name).exists()] == []


def test_every_folder_named_exists() -> None:
    folders = {cell for cell in CELLS if re.fullmatch(r"[\w.-]+(/[\w.-]+)*/", cell)}
    assert folders
    assert [name for name in sorted(folders) if not (ROOT / name).exists()] == []
