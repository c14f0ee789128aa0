"""Writing the ledger of a run, a frame a step."""

import json
import os
import zlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from headrace import atomic
from headrace.data.ledger import HASH_BYTES, HEAD, MAGIC, Header, Ledger, chained
from headrace.data.loader import Provenance
from headrace.errors import IntegrityError


class LedgerWriter:
    """Appends a frame a step.

    Args:
        path: The file to write, replaced if it exists.
        header: What it is about.
        origin: `FILE:LINE` of a document, given its shards' name and its number.
        resumed: The ledger to go on with.
        step: The step after which it ends.

    Raises:
        IntegrityError: `resumed` is altered, or is the ledger of something else.
    """

    def __init__(
        self,
        path: Path,
        header: Header,
        origin: Callable[[str, int], str],
        *,
        resumed: Path | None = None,
        step: int = 0,
    ) -> None:
        self._shards, self._origin = list(header.sources.values()), origin
        self._files: dict[str, int] = {}
        if resumed is None:
            path.write_bytes(MAGIC)
            self._file, self._hash = path.open("ab"), bytes(HASH_BYTES)
            self._append(0, json.dumps(asdict(header)).encode())
            return
        ledger = Ledger(resumed)
        if ledger.header != header or ledger.steps != step:
            raise IntegrityError(
                f"{resumed} is the ledger of {ledger.steps:,} steps on {ledger.header.shards}, and the run goes on "
                f"from step {step:,} on {header.shards}. Remove the checkpoint to go on from the one before."
            )
        self._files, self._hash = ledger.files(), ledger.last_hash
        # In the place of the file, not into it: a hung process that wrote it before may wake up and write on.
        atomic.copy_file(resumed, path)
        self._file = path.open("ab")

    def append(self, step: int, provenance: Provenance) -> None:
        """Record a step and hand it to the operating system, where a killed process cannot lose it."""
        shards = [self._shards[source] for source in provenance.sources_N.tolist()]
        pairs = zip(shards, provenance.documents_N.tolist(), strict=True)
        origins = [self._origin(*pair).rpartition(":") for pair in pairs]
        known = len(self._files)
        files = [self._files.setdefault(file, len(self._files)) for file, _, _ in origins]
        lines = [int(line) for _, _, line in origins]
        columns = np.array([*provenance, files, lines], "<i8")
        # First the lowest byte of every number of a column, then the next: the upper ones are alike and take no room.
        planes = columns.view(np.uint8).reshape(*columns.shape, 8).transpose(0, 2, 1)
        names = json.dumps(list(self._files)[known:]).encode() + b"\n"
        self._append(step, names + planes.tobytes())

    def _append(self, step: int, content: bytes) -> None:
        content = zlib.compress(content, 6)
        head = HEAD.pack(step, len(content))
        self._hash = chained(self._hash, head, content)
        self._file.write(head + content + self._hash)
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def beginning(path: Path, step: int) -> Path:
    """A copy, beside it, of a ledger that another process has left, as it stood after `step`.

    That process may have been killed while it wrote a later frame, and everything before is checked when it is read.
    """
    copy = path.with_suffix(".before")
    with path.open("rb") as source:
        size = len(source.read(len(MAGIC)))
        for _ in range(step + 1):
            head = source.read(HEAD.size)
            content = HEAD.unpack(head)[1] if len(head) == HEAD.size else 0
            size = source.seek(content + HASH_BYTES, os.SEEK_CUR)
        source.seek(0)
        copy.write_bytes(source.read(size))
    return copy
