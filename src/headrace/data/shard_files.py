"""The files of token shards, and how they are read: through memory maps, nothing before it is asked for.

An artifact holds pairs of files: `00000.tokens`, the ids of its documents end to end, each document
closed by end-of-text, and `00000.index`, one record a document. `shards.json` lists them with the
names behind the numbers of sources and origins. Ids take two bytes where the vocabulary allows it, else four.

Shape letter: N documents asked for.
"""

import copy
import json
from collections.abc import Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.artifacts import TokenShards
from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.storage import Stored

LAYOUT_FILE = "shards.json"
SHOWN = 8
"""Sources that an error names."""
RECORD = np.dtype([("end", "<u8"), ("prompt_tokens", "<u4"), ("source", "<u4"), ("origin", "<u4"), ("line", "<u4")])
"""Where a document ends in its file, how many of its tokens are prompt, the number of its source, and the
number of the file it was read from with its line there."""
Ids: TypeAlias = npt.NDArray[Any]


@dataclass(kw_only=True, slots=True)
class FileLayout:
    """One pair of files."""

    name: str
    documents: int = 0
    tokens: int = 0
    prompted: int = 0
    """Documents with a prompt."""
    sources: list[str] = field(default_factory=list)
    """Names behind the numbers in the index."""
    origins: list[str] = field(default_factory=list)
    """Files that the documents were read from, behind their numbers in the index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Contents of `shards.json`."""

    vocabulary: int
    """Ids of the tokenizer; every token is below it."""
    eos_id: int
    files: list[FileLayout]

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian integers just wide enough for the vocabulary."""
        return np.dtype("<u2" if self.vocabulary < 2**16 else "<u4")

    def save(self, folder: Path) -> None:
        """Write `shards.json`."""
        (folder / LAYOUT_FILE).write_text(json.dumps(encode(self), indent=1) + "\n")


class OpenShards:
    """Documents by number, in the order they were written; nothing is read before it is asked for."""

    def __init__(self, stored: Stored[TokenShards]) -> None:
        self.stored = stored
        self.path = stored.path
        self.digest = stored.digest
        self.fingerprint = stored.facts.tokenizer
        self.sources: dict[str, int] = dict(stored.facts.sources)
        """Tokens per source."""
        self.tokens = stored.facts.tokens
        self.layout = decode(Layout, json.loads((self.path / LAYOUT_FILE).read_text()))
        self.vocabulary = self.layout.vocabulary
        self.eos_id = self.layout.eos_id
        names = [self.path / file.name for file in self.layout.files]
        self._tokens = [_map(name.with_suffix(".tokens"), self.layout.dtype) for name in names]
        self._index = [_map(name.with_suffix(".index"), RECORD) for name in names]
        self._first = np.cumsum([0] + [file.documents for file in self.layout.files])
        self._chosen: npt.NDArray[Any] | None = None
        """Numbers in the artifact of the documents of a view; None for all."""

    def __len__(self) -> int:
        return int(self._first[-1]) if self._chosen is None else len(self._chosen)

    def select(self, source: str) -> "OpenShards":
        """A view of the documents whose source is `source` or begins with `source/`, in their order.

        Raises:
            ConfigError: There are none.
        """
        names = {name for name in self.sources if name == source or name.startswith(f"{source}/")}
        if not names:
            known = ", ".join(list(self.sources)[:SHOWN])
            raise ConfigError(f"{self.path} holds no source {source!r}. Give one of its {len(self.sources)}: {known} …")
        if len(names) == len(self.sources):
            return self
        view = copy.copy(self)
        view.sources = {name: tokens for name, tokens in self.sources.items() if name in names}
        view.tokens = sum(view.sources.values())
        matches = np.concatenate([self._matches(file, names) for file in range(len(self._index))])
        chosen = np.flatnonzero(matches) if self._chosen is None else self._chosen[matches[self._chosen]]
        view._chosen = chosen.astype(np.uint32 if len(matches) < 2**32 else np.int64)
        return view

    def _matches(self, file: int, names: Set[str]) -> npt.NDArray[np.bool_]:
        """Which documents of one file are of the sources `names`."""
        wanted = np.array([name in names for name in self.layout.files[file].sources])
        matches: npt.NDArray[np.bool_] = wanted[self._index[file]["source"]]
        return matches

    def numbers(self, numbers_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Numbers that documents of a view have in the whole artifact."""
        return numbers_N if self._chosen is None else self._chosen[numbers_N].astype(np.int64)

    def document(self, number: int) -> Ids:
        """Tokens of one document, its end-of-text last: a read-only view of the file."""
        file, row = self._locate(number)
        end = self._index[file]["end"]
        return self._tokens[file][int(end[row - 1]) if row else 0 : int(end[row])]

    def prompt_tokens(self, number: int) -> int:
        """How many tokens of a document are its prompt; 0 for plain text."""
        file, row = self._locate(number)
        return int(self._index[file]["prompt_tokens"][row])

    def source(self, number: int) -> str:
        """Where a document came from."""
        file, row = self._locate(number)
        return self.layout.files[file].sources[int(self._index[file]["source"][row])]

    def origin(self, number: int) -> str:
        """`FILE:LINE` that a document was read from: its id."""
        file, row = self._locate(number)
        record = self._index[file][row]
        return f"{self.layout.files[file].origins[int(record['origin'])]}:{record['line']}"

    def prompted(self) -> int:
        """Documents that have a prompt."""
        if self._chosen is not None:
            return int(np.count_nonzero(self.prompts(np.arange(len(self)))))
        return sum(file.prompted for file in self.layout.files)

    def lengths(self, numbers_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens of each document, end-of-text included."""
        numbers_N = self.numbers(numbers_N)
        ends = self._field("end", numbers_N)
        starts = self._field("end", np.maximum(numbers_N - 1, 0))
        return ends - np.where(np.isin(numbers_N, self._first), 0, starts)

    def prompts(self, numbers_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Prompt tokens of each document."""
        return self._field("prompt_tokens", self.numbers(numbers_N))

    def spans(
        self, numbers_N: npt.NDArray[np.int64], starts_N: npt.NDArray[np.int64], stops_N: npt.NDArray[np.int64]
    ) -> Ids:
        """Tokens `starts_N` to `stops_N` of the documents, end to end."""
        numbers_N = self.numbers(numbers_N)
        files_N = np.searchsorted(self._first, numbers_N, side="right") - 1
        before_N = np.where(np.isin(numbers_N, self._first), 0, self._field("end", np.maximum(numbers_N - 1, 0)))
        bounds = zip(files_N.tolist(), (before_N + starts_N).tolist(), (before_N + stops_N).tolist(), strict=True)
        return np.concatenate([self._tokens[file][start:stop] for file, start, stop in bounds])

    def _field(self, name: str, numbers_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        files_N = np.searchsorted(self._first, numbers_N, side="right") - 1
        values_N = np.empty(len(numbers_N), np.int64)
        for file in np.unique(files_N):
            mine = files_N == file
            values_N[mine] = self._index[file][name][numbers_N[mine] - self._first[file]]
        return values_N

    def _locate(self, number: int) -> tuple[int, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"document {number} of {len(self)}")
        number = number if self._chosen is None else int(self._chosen[number])
        file = int(np.searchsorted(self._first, number, side="right")) - 1
        return file, number - int(self._first[file])


def _map(path: Path, dtype: np.dtype[Any]) -> Ids:
    """A plain array over a memory map: slicing `np.memmap` itself costs ten times as much."""
    return np.asarray(np.memmap(path, dtype=dtype, mode="r")).view(np.ndarray)
