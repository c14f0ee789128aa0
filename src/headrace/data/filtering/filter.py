"""Decide which documents are not trained on, over all files of a corpus at once.

Documents are taken in the order of their files' names and of their lines, whatever pieces they were signed in,
so that the result is the same for any number of pieces. What is contaminated goes first: of two alike documents
the one that overlaps with an evaluation item is not the one that stays. Then of equal documents the first
stays, then of near duplicates.

Memory: about 300 bytes a document, and 150 more for a near duplicate. Signatures, 4 bytes a permutation, are
gathered in a file.
"""

import json
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace import storage
from headrace.artifacts import Exclusions, LookedFor, Manifest
from headrace.config import encode
from headrace.data.documents import Document
from headrace.data.filtering.duplicates import first_equals, near_duplicates
from headrace.data.filtering.signatures import OVERLAPS_FILE, FilterConfig, OpenSignatures, sign
from headrace.data.filtering.words import Counts
from headrace.errors import ConfigError, DataError, MismatchError

__all__ = ["FilterConfig", "OpenExclusions", "filter_documents", "load_exclusions", "sign"]

EXCLUSIONS_FILE = "exclusions.jsonl"
ROWS_AT_ONCE = 4096
REASONS = ("exact", "near", "contaminated")
Overlaps: TypeAlias = dict[tuple[str, int], tuple[int, str]]
"""By document: how many n-grams it shares with the item that it shares most with, and that in words."""


def filter_documents(signature_uris: Sequence[str | Path], output_uri: str | Path, config: FilterConfig) -> Manifest:
    """Compare all signed documents and write which to leave out as `Exclusions`.

    Raises:
        ConfigError: There are no signatures.
        MismatchError: They were not made under this configuration, or for the same evaluation items.
        DataError: Two different documents have one id.
    """
    pieces = [OpenSignatures(uri) for uri in signature_uris]
    _check(pieces, config)
    corpus = _Corpus(pieces)
    with storage.writing(output_uri) as tree:
        overlapping = _copy_overlaps(pieces, tree.path)
        dropped = overlapping if config.contamination == "drop" else {}
        decided = _decide(corpus, config, dropped)
        kinds_D = decided.kinds_D
        with (tree.path / EXCLUSIONS_FILE).open("w", encoding="utf-8") as lines:
            for number in np.flatnonzero(kinds_D).tolist():
                line = corpus.where(number) | {
                    "kind": REASONS[kinds_D[number] - 1],
                    "reason": decided.reason(number, overlapping),
                }
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
        counts = {reason: int(np.count_nonzero(kinds_D == code)) for code, reason in enumerate(REASONS, start=1)}
        facts = Exclusions(
            documents=len(corpus),
            **counts,
            overlapping=len(overlapping),
            items=pieces[0].facts.items,
            unchecked=pieces[0].facts.unchecked,
            looked_for=pieces[0].facts.looked_for,
            sources=corpus.count(kinds_D),
            config=encode(config),
        )
        digests = sorted({piece.digest for piece in pieces})
        return tree.commit(facts, {f"signatures_{number}": digest for number, digest in enumerate(digests)})


def _check(pieces: Sequence[OpenSignatures], config: FilterConfig) -> None:
    if not pieces:
        raise ConfigError("There are no signatures to compare. Give one URI or more.")
    for piece in pieces:
        if config.near and piece.facts.scheme != config.scheme():
            made = piece.facts.scheme or "without MinHash"
            raise MismatchError(f"{piece.uri} was signed {made}, not {config.scheme()}. Sign the documents again.")
        wanted = config.contamination != "off"
        if wanted and (not piece.facts.evaluation or _sought(piece) != _sought(pieces[0])):
            raise MismatchError(
                f"{piece.uri} was not checked against the evaluation items of {pieces[0].uri} with "
                f"contamination={config.contamination!r}. Sign all files against the same items."
            )


def _sought(piece: OpenSignatures) -> tuple[str, dict[str, LookedFor]]:
    return piece.facts.evaluation, piece.facts.looked_for


class _Corpus:
    """The records of all pieces, in the order in which documents take precedence."""

    def __init__(self, pieces: Sequence[OpenSignatures]) -> None:
        self.pieces = pieces
        self.files = sorted({name for piece in pieces for name in piece.files})
        self.sources = sorted({name for piece in pieces for name in piece.sources})
        records = [_renumber(piece, self.files, self.sources) for piece in pieces]
        rows = [np.cumsum(part["signed"], dtype=np.int64) - 1 for part in records]
        owners = np.repeat(np.arange(len(pieces), dtype=np.int32), [len(part) for part in records])
        together = np.concatenate(records)
        order = np.lexsort((owners, together["line"], together["file"]))
        order = order[self._firsts(together[order])]
        self.records, self.owners, self.rows = together[order], owners[order], np.concatenate(rows)[order]

    def __len__(self) -> int:
        return len(self.records)

    def _firsts(self, ordered: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        """Marks that leave each document once, however often it was signed.

        Raises:
            DataError: What was signed under one id are different documents.
        """
        again = (ordered["file"][1:] == ordered["file"][:-1]) & (ordered["line"][1:] == ordered["line"][:-1])
        other = again & (ordered["digest"][1:] != ordered["digest"][:-1]).any(axis=1)
        if other.any():
            record = ordered[int(np.argmax(other))]
            raise DataError(
                f"{self.files[record['file']]}:{record['line']} is the id of two different documents. "
                "Sign a file again after it has changed, and number its documents apart."
            )
        return np.concatenate([[True], ~again]) if len(ordered) else np.empty(0, bool)

    def where(self, number: int) -> dict[str, Any]:
        """File, line and source of a document."""
        record = self.records[number]
        file, source = self.files[record["file"]], self.sources[record["source"]]
        return {"file": file, "line": int(record["line"]), "source": source}

    def place(self, number: int) -> tuple[str, int]:
        """File and line of a document."""
        return self.files[self.records["file"][number]], int(self.records["line"][number])

    def name(self, number: int) -> str:
        """The id of a document."""
        file, line = self.place(number)
        return f"{file}:{line}"

    def signatures(self, numbers: Counts, scratch: Any) -> npt.NDArray[np.uint32]:
        """Gather signatures from all pieces, in order, in a scratch file."""
        permutations = max(piece.facts.permutations for piece in self.pieces)
        gathered = np.memmap(scratch, np.uint32, "w+", shape=(len(numbers), permutations))
        owners, rows = self.owners[numbers], self.rows[numbers]
        for owner in np.unique(owners):
            mine, minhash = np.flatnonzero(owners == owner), self.pieces[owner].minhash
            for at in range(0, len(mine), ROWS_AT_ONCE):
                some = mine[at : at + ROWS_AT_ONCE]
                gathered[some] = minhash[rows[some]]
        return gathered

    def count(self, kinds_D: npt.NDArray[np.uint8]) -> dict[str, dict[str, int]]:
        """Numbers by source."""
        numbers = self.records["source"].astype(np.int64)
        size = len(self.sources)
        table = {"documents": np.bincount(numbers, minlength=size)}
        for name in ("words", "bytes"):
            table[name] = np.bincount(numbers, weights=self.records[name], minlength=size).astype(np.int64)
        for code, reason in enumerate(REASONS, start=1):
            table[reason] = np.bincount(numbers[kinds_D == code], minlength=size)
        return {
            source: {name: int(column[number]) for name, column in table.items()}
            for number, source in enumerate(self.sources)
        }


def _renumber(piece: OpenSignatures, files: Sequence[str], sources: Sequence[str]) -> npt.NDArray[Any]:
    """A piece's records with the corpus's numbers of files and sources."""
    records = piece.records
    for name, own, all_of_them in (("file", piece.files, files), ("source", piece.sources, sources)):
        place = {text: number for number, text in enumerate(all_of_them)}
        records[name] = np.array([place[text] for text in own], np.uint32)[records[name]] if own else 0
    return records


def _copy_overlaps(pieces: Sequence[OpenSignatures], folder: Path) -> Overlaps:
    """Write all overlaps, in order; by document, give how long its longest is and what it says."""
    best: Overlaps = {}
    found = {}
    for piece in pieces:
        for overlap in piece.overlaps():
            key = overlap["file"], overlap["line"]
            found[(*key, overlap["item"], overlap["words"])] = overlap
            text = f"contaminated by {overlap['item']}: '{overlap['words']}'"
            best[key] = max(best.get(key, (0, "")), (overlap["ngrams"], text))
    with (folder / OVERLAPS_FILE).open("w", encoding="utf-8") as lines:
        for _, overlap in sorted(found.items()):
            lines.write(json.dumps(overlap, ensure_ascii=False) + "\n")
    return best


class _Decisions:
    """What becomes of each document: 0, or 1 more than the place of its reason in `REASONS`; and what it is like."""

    def __init__(self, corpus: _Corpus) -> None:
        self.kinds_D = np.zeros(len(corpus), np.uint8)
        self.likes_D = np.zeros(len(corpus), np.int64)
        self.similarities_D = np.ones(len(corpus), np.float32)
        self._corpus = corpus

    def left(self) -> Counts:
        """Documents not excluded so far."""
        return np.flatnonzero(self.kinds_D == 0)

    def reason(self, number: int, overlaps: Overlaps) -> str:
        """Why a document is excluded."""
        kind = REASONS[self.kinds_D[number] - 1]
        if kind == "contaminated":
            return overlaps[self._corpus.place(number)][1]
        similarity = f" ({self.similarities_D[number]:.2f})" if kind == "near" else ""
        return f"{kind} duplicate of {self._corpus.name(int(self.likes_D[number]))}{similarity}"


def _decide(corpus: _Corpus, config: FilterConfig, contaminated: Overlaps) -> _Decisions:
    made = _Decisions(corpus)
    if contaminated:
        hit = np.fromiter((corpus.place(number) in contaminated for number in range(len(corpus))), bool, len(corpus))
        made.kinds_D[hit] = 3
    if config.exact:
        left = made.left()
        firsts = left[first_equals(corpus.records["digest"][left])]
        again = firsts != left
        made.kinds_D[left[again]], made.likes_D[left[again]] = 1, firsts[again]
    left = made.left()
    left = left[corpus.records["signed"][left] > 0]
    if config.near and len(left):
        with tempfile.TemporaryFile() as scratch:
            found = near_duplicates(corpus.signatures(left, scratch), config.jaccard)
        for row, (like, similarity) in found.items():
            number = int(left[row])
            made.kinds_D[number], made.likes_D[number], made.similarities_D[number] = 2, left[like], similarity
    return made


class OpenExclusions:
    """Which documents to leave out, by file."""

    def __init__(self, uri: str | Path) -> None:
        stored = storage.read(uri, Exclusions)
        self.facts = stored.facts
        self.digest = stored.digest
        self._path = stored.path
        self._lines: defaultdict[str, set[int]] = defaultdict(set)
        for record in self.records():
            self._lines[record["file"]].add(record["line"])

    def lines(self, file: str) -> frozenset[int]:
        """Lines of a file that are left out."""
        return frozenset(self._lines.get(file, ()))

    def without(self, documents: Iterable[Document]) -> Iterator[Document]:
        """The documents that are not left out."""
        return (document for document in documents if document.line not in self._lines.get(document.file, ()))

    def counts(self) -> dict[str, int]:
        """Documents left out, by reason."""
        return {reason: getattr(self.facts, reason) for reason in REASONS}

    def records(self) -> Iterator[dict[str, Any]]:
        """`file`, `line`, `source`, `kind` and `reason` of each document left out, in order."""
        yield from _read(self._path / EXCLUSIONS_FILE)

    def overlaps(self) -> Iterator[dict[str, Any]]:
        """`file`, `line`, `source`, `item`, `words` and `ngrams` of each overlap, left out or not."""
        yield from _read(self._path / OVERLAPS_FILE)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        yield from map(json.loads, lines)


def load_exclusions(uri: str | Path) -> OpenExclusions:
    """Open an `Exclusions` artifact.

    Raises:
        IntegrityError: A file is missing, short or altered.
    """
    return OpenExclusions(uri)
