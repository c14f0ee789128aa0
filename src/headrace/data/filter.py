"""Decide which documents are not trained on, over all files of a corpus at once.

Documents are taken in the order of their files' names and of their lines, whatever pieces they were signed in,
so that the result is the same for any number of pieces. What is contaminated goes first: of two alike documents
the one that overlaps with an evaluation item is not the one that stays. Then of equal documents the first
stays, then of near duplicates.

Memory: about 250 bytes a document. Signatures, 4 bytes a permutation, are gathered in a file.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace import storage
from headrace.artifacts import Exclusions, Manifest
from headrace.config import encode
from headrace.data.documents import Document
from headrace.data.duplicates import first_equals, near_duplicates
from headrace.data.signatures import OVERLAPS_FILE, FilterConfig, OpenSignatures, sign
from headrace.data.words import Counts
from headrace.errors import ConfigError, DataError, MismatchError

__all__ = ["FilterConfig", "OpenExclusions", "filter_documents", "load_exclusions", "sign"]

EXCLUSIONS_FILE = "exclusions.jsonl"
REASONS = ("exact", "near", "contaminated")


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
        kinds_D, reasons = _decide(corpus, config, dropped)
        with (tree.path / EXCLUSIONS_FILE).open("w", encoding="utf-8") as lines:
            for number in np.flatnonzero(kinds_D).tolist():
                line = corpus.where(number) | {"kind": REASONS[kinds_D[number] - 1], "reason": reasons[number]}
                lines.write(json.dumps(line, ensure_ascii=False) + "\n")
        counts = {reason: int(np.count_nonzero(kinds_D == code)) for code, reason in enumerate(REASONS, start=1)}
        facts = Exclusions(
            documents=len(corpus),
            **counts,
            overlapping=len(overlapping),
            items=pieces[0].facts.items,
            unchecked=pieces[0].facts.unchecked,
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
        if wanted and (not piece.facts.evaluation or piece.facts.evaluation != pieces[0].facts.evaluation):
            raise MismatchError(
                f"{piece.uri} was not checked against the evaluation items of {pieces[0].uri} with "
                f"contamination={config.contamination!r}. Sign all files against the same items."
            )


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

    def name(self, number: int) -> str:
        """The id of a document."""
        record = self.records[number]
        return f"{self.files[record['file']]}:{record['line']}"

    def signatures(self, numbers: Counts, scratch: Any) -> npt.NDArray[np.uint32]:
        """Gather signatures from all pieces, in order, in a scratch file."""
        permutations = max(piece.facts.permutations for piece in self.pieces)
        gathered = np.memmap(scratch, np.uint32, "w+", shape=(len(numbers), permutations))
        owners, rows = self.owners[numbers], self.rows[numbers]
        for owner in np.unique(owners):
            mine = np.flatnonzero(owners == owner)
            gathered[mine] = self.pieces[owner].minhash[rows[mine]]
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


def _copy_overlaps(pieces: Sequence[OpenSignatures], folder: Path) -> dict[tuple[str, int], tuple[int, str]]:
    """Write all overlaps, in order; by document, give how long its longest is and what it says."""
    best: dict[tuple[str, int], tuple[int, str]] = {}
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


def _decide(
    corpus: _Corpus, config: FilterConfig, contaminated: dict[tuple[str, int], tuple[int, str]]
) -> tuple[npt.NDArray[np.uint8], dict[int, str]]:
    """What becomes of each document: 0, or 1 more than the place of its reason in `REASONS`; and the reason."""
    kinds_D = np.zeros(len(corpus), np.uint8)
    reasons: dict[int, str] = {}
    if contaminated:
        ids = zip(corpus.records["file"].tolist(), corpus.records["line"].tolist(), strict=True)
        for number, (file, line) in enumerate(ids):
            if (corpus.files[file], line) in contaminated:
                kinds_D[number], reasons[number] = 3, contaminated[corpus.files[file], line][1]
    if config.exact:
        left = np.flatnonzero(kinds_D == 0)
        firsts = left[first_equals(corpus.records["digest"][left])]
        for number, first in zip(left[firsts != left].tolist(), firsts[firsts != left].tolist(), strict=True):
            kinds_D[number], reasons[number] = 1, f"exact duplicate of {corpus.name(first)}"
    left = np.flatnonzero((kinds_D == 0) & (corpus.records["signed"] > 0))
    if config.near and len(left):
        with tempfile.TemporaryFile() as scratch:
            found = near_duplicates(corpus.signatures(left, scratch), config.jaccard)
        for row, (like, similarity) in found.items():
            number, first = int(left[row]), int(left[like])
            kinds_D[number], reasons[number] = 2, f"near duplicate of {corpus.name(first)} ({similarity:.2f})"
    return kinds_D, reasons


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

    def similarities(self) -> Counter[int]:
        """Near duplicates by estimated similarity, in whole percents."""
        near = (record["reason"] for record in self.records() if record["kind"] == "near")
        return Counter(round(100 * float(reason.rpartition("(")[2].rstrip(")"))) for reason in near)


def _read(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as lines:
        yield from map(json.loads, lines)


def load_exclusions(uri: str | Path) -> OpenExclusions:
    """Open an `Exclusions` artifact.

    Raises:
        IntegrityError: A file is missing, short or altered.
    """
    return OpenExclusions(uri)
