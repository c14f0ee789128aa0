"""What every reader makes, a document, and how it checks the fields that a document is made from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

Record: TypeAlias = dict[str, Any]
"""One object of a `.jsonl` line, or one row of a data set on a hub."""


class Document(NamedTuple):
    """One piece of text, or one instruction with its answer; made by the million, in a third of a dataclass's time."""

    source: str
    """`SOURCE` or `SOURCE/SUBSET`, such as `pile/ArXiv`."""
    text: str = ""
    """The whole of a plain document; empty for an instruction."""
    prompt: str = ""
    target: str = ""
    """The answer; empty for a plain document, never for an instruction."""
    file: str = ""
    """Where it was read: an absolute path, a `gs://` URI or a hub's `hub:NAME`."""
    line: int = 0
    """Its line from 1, or its number from 1 where a file is not made of lines."""


Parse: TypeAlias = Callable[[Record, int], Document]
"""Turns one record, and its line, into a document; raises `FaultyRecord`."""


class FaultyRecord(Exception):
    """A record that is no document; its message says why, to be read after the record's place."""


@dataclass(frozen=True, slots=True)
class Origin:
    """The file that is read, and what its documents are to be called."""

    file: str
    name: str = ""
    """The source as the corpus's configuration calls it."""
    default: str = "corpus"
    """What documents are called that neither the configuration nor the file names."""
    stamp: str = ""
    """What told its state when the corpus was gathered, as `headrace.data.references` has it; empty where unknown."""

    def source(self, subset: str = "") -> str:
        """`SOURCE/SUBSET`, or as much of it as is known."""
        if self.name and subset:
            return f"{self.name}/{subset}"
        return subset or self.name or self.default


def text_field(values: Record, key: str) -> str:
    """One field that must be there and be text, empty or not."""
    text = values.get(key)
    if isinstance(text, str):
        return text
    raise FaultyRecord(f"has a {key!r} of type {type(text).__name__}, not text" if key in values else f"has no {key!r}")


def nonempty_field(values: Record, key: str) -> str:
    """One field that must hold something, be it whitespace: of a plain text every byte counts."""
    if text := text_field(values, key):
        return text
    raise FaultyRecord(f"has an empty {key!r}")


def filled_field(values: Record, key: str) -> str:
    """One field that must hold more than whitespace."""
    text = nonempty_field(values, key)
    if not text.isspace():
        return text
    raise FaultyRecord(f"has an empty {key!r}")


def joined(prompt: str, target: str) -> tuple[str, str]:
    """Prompt and target that, one after the other, read as one text.

    The space between them belongs to the target (`"Output:"`, `" Swiss Franc"`): byte-level tokens carry the
    space before a word, and prompts that people type end without one. It is added where neither side
    has whitespace, and moved where it ends the prompt; line feeds stay where they are.
    """
    bare = prompt.rstrip(" ")
    if target[:1].isspace() or not bare:
        return prompt, target
    return (prompt, target) if bare[-1].isspace() else (bare, f" {target}")
