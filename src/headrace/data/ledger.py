"""What every step of a run was fed: which tokens of which documents, in a file that only grows.

    headrace ledger 1
    frame 0: the header, JSON          the shards by name and digest, the source names
    frame 1: the batch of step 1       one record a part of a document, in columns
    ...

A frame is its step, its size, its content, compressed, and a SHA-256 over all of these and over the
hash of the frame before, so that no step can be changed, left out or moved without breaking the chain.
The file lies in the workspace while a run trains, and every checkpoint holds a copy: a run that goes on from a
checkpoint goes on with that copy, and what was written after it is forgotten as the steps themselves are.

A document is named twice: by shards and number, for who has the shards, and as `FILE:LINE` of the corpus.

Shape letter: N parts of documents.
"""

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from headrace.config import decode
from headrace.errors import IntegrityError

MAGIC = b"headrace ledger 1\n"
HEAD = struct.Struct("<QI")
"""Step and bytes of content of a frame."""
HASH_BYTES = 32
COLUMNS = ("row", "source", "document", "start", "stop", "file", "line")
"""What a record holds; `file` is the number of a name in `files`, which grows from frame to frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a ledger is about."""

    shards: dict[str, str]
    """Digest of the shards by their name."""
    sources: dict[str, str]
    """Which shards each source of the mixture is of; records number sources in this order."""


class Record(NamedTuple):
    """One part of one document, as one step was fed it."""

    step: int
    row: int
    """Of the whole batch, from 0."""
    source: str
    shards: str
    """Name of the shards."""
    number: int
    """The document's number in them."""
    start: int
    stop: int
    """Which of its tokens; the prompt comes first, end-of-text last."""
    document: str
    """`FILE:LINE` it was read from."""


def chained(before: bytes, head: bytes, content: bytes) -> bytes:
    """Hash of a frame that follows the one with the hash `before`."""
    return hashlib.sha256(before + head + content).digest()


class Ledger:
    """A ledger at rest, whose chain holds.

    Raises:
        IntegrityError: It is no ledger, ends in the middle of a frame, or a frame was changed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self.last_hash = path, bytes(HASH_BYTES)
        self._frames: list[tuple[int, int]] = []
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise IntegrityError(f"{path} is no ledger of this version. Give a checkpoint that training wrote.")
            while file.tell() < os.fstat(file.fileno()).st_size:
                self._check(file)
            if not self._frames:
                raise IntegrityError(f"{path} has no header. Take another copy of the checkpoint.")
            self.header = decode(Header, json.loads(self._content(file, 0)))

    @property
    def steps(self) -> int:
        """The last step recorded."""
        return len(self._frames) - 1

    def _check(self, file: BinaryIO) -> None:
        """Go over the next frame."""
        step = len(self._frames)
        head = file.read(HEAD.size)
        named, size = HEAD.unpack(head) if len(head) == HEAD.size else (-1, 0)
        self._frames.append((file.tell(), size))
        content, found = file.read(size), file.read(HASH_BYTES)
        self.last_hash = chained(self.last_hash, head, content)
        if named != step or found != self.last_hash:
            raise IntegrityError(
                f"{self._path} was altered at step {step:,}: its hash does not follow from what is recorded before. "
                "Take another copy of the checkpoint."
            )

    def _content(self, file: BinaryIO, step: int) -> bytes:
        place, size = self._frames[step]
        file.seek(place)
        return zlib.decompress(file.read(size))

    def files(self) -> dict[str, int]:
        """Number of every file that documents were read from."""
        names: list[str] = []
        for _, new, _ in self._batches():
            names += new
        return {name: number for number, name in enumerate(names)}

    def _batches(self) -> Iterator[tuple[int, list[str], Mapping[str, Any]]]:
        """Every step, the files it is the first to name, and its columns."""
        with self._path.open("rb") as file:
            for step in range(1, len(self._frames)):
                names, _, content = self._content(file, step).partition(b"\n")
                planes = np.frombuffer(content, np.uint8).reshape(len(COLUMNS), 8, -1)
                columns = np.ascontiguousarray(planes.transpose(0, 2, 1)).view("<i8")[..., 0]
                yield step, json.loads(names), dict(zip(COLUMNS, columns, strict=True))

    def of_step(self, step: int) -> list[Record]:
        """What one step was fed, row after row.

        Raises:
            KeyError: There is no such step.
        """
        if not 1 <= step <= self.steps:
            raise KeyError(step)
        files: list[str] = []
        for number, names, columns in self._batches():
            files += names
            if number == step:
                return self._records(step, columns, files, np.arange(len(columns["row"])))
        raise AssertionError("every step has a frame")

    def of_document(self, document: str) -> list[Record]:
        """Every time that `FILE:LINE` was fed, in order."""
        name, _, line = document.rpartition(":")
        files: list[str] = []
        found: list[Record] = []
        for step, names, columns in self._batches():
            files += names
            if name in files and line.isdecimal():
                seen = (columns["file"] == files.index(name)) & (columns["line"] == int(line))
                found += self._records(step, columns, files, np.flatnonzero(seen))
        return found

    def _records(self, step: int, columns: Mapping[str, Any], files: list[str], chosen: Any) -> list[Record]:
        sources = list(self.header.sources)
        shards = list(self.header.sources.values())
        rows = zip(*(columns[name][chosen].tolist() for name in COLUMNS), strict=True)
        return [
            Record(step, row, sources[source], shards[source], number, start, stop, f"{files[file]}:{line}")
            for row, source, number, start, stop, file, line in rows
        ]
