"""Encoded documents to the files of token shards, hashed while they are written.

Where one pair of files ends and the next begins depends on the documents alone, not on how they were
batched: equal documents give equal bytes.

Shape letter: N documents of a batch.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace import resident
from headrace.artifacts import FileEntry
from headrace.data.encoding import Encoded
from headrace.data.shard_files import RECORD, FileLayout, Layout

SYNC_BYTES = 2**24
"""Written between two calls for the disk, which so works while the next batch is encoded."""
TRIM_TOKENS = 2**24
"""Written between two returns of free memory: texts come and go in other threads, and leave gaps that would add up.
More often takes longer, since the system clears each page that is asked for again."""


class HashedFile:
    """A file that is written once, from its start, and knows its SHA-256 at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stream = path.open("wb", buffering=0)
        self._digest = hashlib.sha256()
        self._bytes = self._unsynced = 0

    def write(self, values: npt.NDArray[Any]) -> None:
        """Append the bytes of a one-dimensional array."""
        data = values.view(np.uint8).data
        self._digest.update(data)
        self._bytes += len(data)
        self._unsynced += len(data)
        while data:
            data = data[self._stream.write(data) :]
        if self._unsynced >= SYNC_BYTES:
            os.fdatasync(self._stream.fileno())
            self._unsynced = 0

    def close(self) -> FileEntry:
        """Close the file and say what it holds."""
        self._stream.close()
        return FileEntry(bytes=self._bytes, sha256=self._digest.hexdigest())


class ShardWriter:
    """Appends batches to pairs of files under `folder`.

    Args:
        folder: Where the files come to lie.
        layout: Taken as empty; its files are added as they are begun.
        tokens_per_file: A pair that holds this many is full; the document that fills it is its last.
    """

    def __init__(self, folder: Path, layout: Layout, tokens_per_file: int) -> None:
        self.layout = layout
        self.tokens: Counter[str] = Counter()
        """Tokens per source."""
        self.entries: dict[str, FileEntry] = {}
        """Size and hash of each closed file, by name."""
        self._folder = folder
        self._tokens_per_file = tokens_per_file
        self._open: tuple[HashedFile, ...] = ()
        self._untrimmed = 0

    def append(self, batch: Encoded) -> None:
        """Write a batch, beginning new files as they fill."""
        first, count = 0, len(batch.ends_N)
        while first < count:
            if not self._open or self.layout.files[-1].tokens >= self._tokens_per_file:
                self._begin_file()
            begin = int(batch.ends_N[first - 1]) if first else 0
            room = self._tokens_per_file - self.layout.files[-1].tokens
            stop = min(count, int(np.searchsorted(batch.ends_N, begin + room)) + 1)
            self._write(batch, first, stop, begin)
            first = stop
        self._untrimmed += len(batch.ids)
        if self._untrimmed >= TRIM_TOKENS:
            resident.give_back()
            self._untrimmed = 0

    def close(self) -> None:
        """Close the files that are open."""
        for file in self._open:
            self.entries[file.path.name] = file.close()
        self._open = ()

    def _begin_file(self) -> None:
        self.close()
        name = f"{len(self.layout.files):05d}"
        self._open = tuple(HashedFile(self._folder / f"{name}{suffix}") for suffix in (".tokens", ".index"))
        self.layout.files.append(FileLayout(name=name))

    def _write(self, batch: Encoded, first: int, stop: int, begin: int) -> None:
        """Write documents `first` to `stop`, whose tokens begin at `begin`, to the last pair."""
        file, (tokens, index) = self.layout.files[-1], self._open
        ends_N = batch.ends_N[first:stop]
        records = np.empty(stop - first, RECORD)
        records["end"] = file.tokens - begin + ends_N
        records["prompt_tokens"] = batch.prompts_N[first:stop]
        records["source"] = _number(batch.sources[first:stop], file.sources)
        records["origin"] = _number(batch.origins[first:stop], file.origins)
        records["line"] = batch.lines[first:stop]
        tokens.write(batch.ids[begin : int(ends_N[-1])].astype(self.layout.dtype))
        index.write(records)
        file.documents += stop - first
        file.tokens += int(ends_N[-1]) - begin
        file.prompted += int(np.count_nonzero(records["prompt_tokens"]))
        # A sum of floats, but exact: far below 2^53.
        counts = np.bincount(records["source"], np.diff(ends_N, prepend=begin), len(file.sources))
        self.tokens.update({name: int(counts[n]) for n, name in enumerate(file.sources) if counts[n]})


def _number(names: Sequence[str], known: list[str]) -> list[int]:
    """Numbers of names in `known`, to which new ones are added in the order they come."""
    numbers = {name: number for number, name in enumerate(known)}
    found = [numbers.setdefault(name, len(numbers)) for name in names]
    known.extend(list(numbers)[len(known) :])
    return found
