"""What is kept of each document to compare it with all others: one file's `Signatures`, made on its own.

`documents.records` has 48 bytes a document, `minhash.u32` one row of `permutations` values for each that is
compared by MinHash, in the same order, and `overlaps.jsonl` one line for each pair of document and
evaluation item that share words. `names.json` holds the names behind the records' numbers.

Memory holds one batch of documents and the index of evaluation items, however large the file.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from headrace import storage
from headrace.artifacts import LookedFor, Manifest, Signatures
from headrace.data.documents import Document
from headrace.data.filtering.contamination import EvaluationIndex
from headrace.data.filtering.duplicates import digest, sign_words, signature_version
from headrace.data.filtering.words import Words, hash_words
from headrace.errors import ConfigError

if TYPE_CHECKING:
    from io import BufferedWriter

RECORD = np.dtype(
    [
        ("digest", "<u8", (2,)),
        ("bytes", "<u8"),
        ("words", "<u4"),
        ("file", "<u4"),
        ("line", "<u4"),
        ("source", "<u4"),
        ("signed", "<u4"),
        ("reserved", "<u4"),
    ]
)
"""Identity of the text, its size, where it stands and came from, and whether `minhash.u32` has a row for it."""
NAMES_FILE, RECORDS_FILE = "names.json", "documents.records"
MINHASH_FILE, OVERLAPS_FILE = "minhash.u32", "overlaps.jsonl"
BATCH_CHARACTERS = 2**21
BATCH_DOCUMENTS = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class FilterConfig:
    """Which documents are not trained on."""

    exact: bool = True
    """Leave out what equals an earlier document, white space at both ends aside."""
    near: bool = True
    """Leave out what MinHash takes for a near duplicate of an earlier document."""
    near_instructions: bool = False
    """Compare instructions by MinHash too: many differ only by the last words of a long definition."""
    jaccard: float = 0.8
    """Least estimated similarity of near duplicates, over sets of `shingle_words` successive words."""
    shingle_words: int = 5
    permutations: int = 128
    """Values of a signature; the estimate's standard error is at most half the inverse of their square root."""
    seed: int = 0
    """Of the permutations."""
    contamination: Literal["drop", "report", "off"] = "drop"
    """Leave out what overlaps with an evaluation item, or only report it, or do not look."""
    ngram_words: int = 13
    """Successive words that make an overlap."""
    least_words: int = 8
    """Shorter evaluation items than `ngram_words` are looked for whole if they have this many words."""
    shared_items: int = 10
    """Words that more evaluation items than this share are their task's wording, and no overlap."""

    def __post_init__(self) -> None:
        for name in ("shingle_words", "permutations", "ngram_words", "least_words", "shared_items"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no amount. Set 1 or more.")
        if not 0 < self.jaccard <= 1:
            raise ConfigError(f"jaccard={self.jaccard} is no similarity. Set it above 0, and 1 at most.")
        if self.least_words > self.ngram_words:
            raise ConfigError(
                f"least_words={self.least_words} is above ngram_words={self.ngram_words}. Set it to that or less."
            )

    def scheme(self) -> str:
        """How signatures are made under this configuration; empty where none are."""
        if not self.near:
            return ""
        whom = "all" if self.near_instructions else "text"
        return (
            f"rensa {signature_version()}: {self.permutations} x {self.shingle_words} words, seed {self.seed}, {whom}"
        )


class Checked(Protocol):
    """The quarantine that a reader fills."""

    def check(self) -> None:
        """Raise `DataError` where it holds too much."""


def sign(
    documents: Iterable[Document],
    output_uri: str | Path,
    config: FilterConfig,
    *,
    evaluation: Iterable[tuple[str, str]] = (),
    item_files: Mapping[str, Sequence[str]] = {},
    parents: Mapping[str, str] | None = None,
    quarantine: Checked | None = None,
    progress: Callable[[str], None] = lambda text: None,
) -> Manifest:
    """Write the `Signatures` of the documents of one file, or of any part of a corpus.

    Args:
        documents: With `file` and `line`, by which they are known from here on.
        output_uri: Where to write.
        config: The same for all parts of a corpus.
        evaluation: Id and text of each evaluation item; the same for all parts.
        item_files: Fingerprints of the files that they were read from, by split, which their ids begin with.
        parents: Digests of the artifacts that the documents come from.
        quarantine: What the reader of `documents` fills; refused where it holds too much.
        progress: Told how many documents are done.

    Raises:
        DataError: The quarantine holds too much.
    """
    wanted = config.contamination != "off"
    lengths = {"words": config.ngram_words, "least_words": config.least_words, "shared_items": config.shared_items}
    index = EvaluationIndex(evaluation if wanted else (), **lengths)
    with storage.writing(output_uri) as tree:
        with _Writer(tree.path, config, index) as writer:
            for batch in _batches(documents):
                writer.add(batch)
                progress(f"{writer.sources.total():,} documents")
        if quarantine is not None:
            quarantine.check()
        sought, looked_for = (index.digest, index.looked_for(item_files)) if wanted else ("", {})
        return tree.commit(writer.facts(sought, looked_for), parents)


def _batches(documents: Iterable[Document]) -> Iterator[list[Document]]:
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text) + len(document.prompt) + len(document.target)
        if characters >= BATCH_CHARACTERS or len(batch) == BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


class _Writer:
    """The files of one artifact, appended to batch by batch."""

    def __init__(self, folder: Path, config: FilterConfig, index: EvaluationIndex) -> None:
        self.config = config
        self.index = index
        self.sources: Counter[str] = Counter()
        self._folder = folder
        self._files: dict[str, int] = {}
        self._numbers: dict[str, int] = {}
        self._bytes = self._words = self._signed = 0
        self._open: list[BufferedWriter] = []

    def __enter__(self) -> "_Writer":
        self._open = [(self._folder / name).open("wb") for name in (RECORDS_FILE, MINHASH_FILE, OVERLAPS_FILE)]
        return self

    def __exit__(self, *error: object) -> None:
        for stream in self._open:
            stream.close()
        names = {"files": list(self._files), "sources": list(self._numbers)}
        (self._folder / NAMES_FILE).write_text(json.dumps(names, indent=1) + "\n")

    def add(self, batch: Sequence[Document]) -> None:
        """Compute and append what is kept of a batch."""
        records, minhash, overlaps = self._open
        texts = [document.text or f"{document.prompt} {document.target}" for document in batch]
        words = hash_words(texts if self.config.near or len(self.index) else [""] * len(texts))
        rows = self._records(batch, texts, words)
        records.write(rows.tobytes())
        if self.config.near:
            signed = words.where(rows["signed"] > 0)
            signatures = sign_words(signed, self.config.shingle_words, self.config.permutations, self.config.seed)
            minhash.write(signatures.astype("<u4").tobytes())
        for overlap in self.index.find(words, texts):
            document = batch[overlap.document]
            where = {"file": document.file, "line": document.line, "source": document.source}
            line = {**where, "item": overlap.item, "words": overlap.words, "ngrams": overlap.ngrams}
            overlaps.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")

    def _records(self, batch: Sequence[Document], texts: Sequence[str], words: Words) -> npt.NDArray[Any]:
        rows = np.zeros(len(batch), RECORD)
        rows["digest"] = np.frombuffer(b"".join(map(digest, batch)), "<u8").reshape(-1, 2)
        rows["bytes"] = [len(text) if text.isascii() else len(text.encode("utf-8", "replace")) for text in texts]
        rows["words"] = words.counts_D
        rows["file"] = [self._files.setdefault(document.file, len(self._files)) for document in batch]
        rows["line"] = [document.line for document in batch]
        rows["source"] = [self._numbers.setdefault(document.source, len(self._numbers)) for document in batch]
        plain = [self.config.near and (self.config.near_instructions or bool(document.text)) for document in batch]
        rows["signed"] = np.array(plain) & (words.counts_D > 0)
        self.sources.update(document.source for document in batch)
        self._bytes += int(rows["bytes"].sum())
        self._words += int(rows["words"].sum())
        self._signed += int(rows["signed"].sum())
        return rows

    def facts(self, evaluation: str, looked_for: dict[str, LookedFor]) -> Signatures:
        """What the files hold."""
        return Signatures(
            documents=self.sources.total(),
            words=self._words,
            bytes=self._bytes,
            sources=dict(sorted(self.sources.items())),
            signed=self._signed,
            permutations=self.config.permutations if self.config.near else 0,
            scheme=self.config.scheme(),
            evaluation=evaluation,
            items=len(self.index),
            unchecked=self.index.unchecked,
            looked_for=looked_for,
        )


class OpenSignatures:
    """What was kept of one file; signatures stay on the disk until they are asked for."""

    def __init__(self, uri: str | Path) -> None:
        stored = storage.read(uri, Signatures)
        self.uri = str(uri)
        self.facts = stored.facts
        self.digest = stored.digest
        names = json.loads((stored.path / NAMES_FILE).read_text())
        self.files: list[str] = names["files"]
        self.sources: list[str] = names["sources"]
        self.records: npt.NDArray[Any] = np.fromfile(stored.path / RECORDS_FILE, RECORD)
        self._path = stored.path

    @property
    def minhash(self) -> npt.NDArray[np.uint32]:
        """Signatures of the documents that have one, a view of the file."""
        shape = self.facts.signed, self.facts.permutations
        if not self.facts.signed:
            return np.empty(shape, np.uint32)
        return np.memmap(self._path / MINHASH_FILE, "<u4", "r", shape=shape)

    def overlaps(self) -> Iterator[dict[str, Any]]:
        """Overlaps with evaluation items: `file`, `line`, `source`, `item`, `words` and `ngrams` of each."""
        with (self._path / OVERLAPS_FILE).open("rb") as lines:
            yield from map(json.loads, lines)
