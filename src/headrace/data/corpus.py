"""A corpus and its splits: facts out of packages, or files that lie somewhere else.

`text` is trained on as it stands, `instructions` are prompts with targets; every other split is evaluation
data under the name that an `EvalConfig` uses. Files are referenced, not copied; what they were when they
were referenced is part of the corpus's digest.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from headrace import storage
from headrace.artifacts import Corpus, Manifest
from headrace.config import decode, encode, nearest
from headrace.data import hub, references
from headrace.data.companions import companions
from headrace.data.documents import Document, absolute, is_elsewhere, list_sources, read_documents
from headrace.data.facts.facts import FactsConfig, write_facts
from headrace.data.quarantine import Quarantine
from headrace.data.source_files import Piece, SourceFiles
from headrace.data.unchanged import local_stamp
from headrace.errors import ConfigError

INDEX = "corpus.json"
BUNDLE_BYTES = 2**26
"""Small files of a source are tokenized together up to this size, which takes a second or two."""
TRAINED_ON = ("text", "instructions")
FACTS_FILES = {
    "text": "prose-*.jsonl",
    "instructions": "instructions.jsonl",
    "heldout_text": "heldout-prose.jsonl",
    "heldout": "heldout.jsonl",
    "heldout_3shot": "heldout-3shot.jsonl",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusConfig:
    """Where the documents of each split come from."""

    kind: Literal["facts", "files"] = "files"
    """Facts of installed packages, as the demo uses them, or files named below."""
    facts: FactsConfig = field(default_factory=FactsConfig)
    files: dict[str, str] = field(default_factory=dict)
    """By split: a file, a directory, a glob or `gs://bucket/prefix`. `text` and `instructions` are trained on."""
    sources: dict[str, SourceFiles] = field(default_factory=dict)
    """By name, such as `pile`: data sets in formats of their own. Their documents are called `NAME/SUBSET`."""

    def __post_init__(self) -> None:
        if self.kind == "files" and not self.files and not self.sources:
            raise ConfigError("corpus.files is empty: there is nothing to read. Set corpus.files.text=PATH.")
        for name in self.sources:
            if not name or set(name) & set("=:"):
                raise ConfigError(f"corpus.sources has {name!r}, which is no name. Use one without '=' and ':'.")


def gather_corpus(config: CorpusConfig, output_uri: str | Path) -> Manifest:
    """Write the facts, or an index of the files, as a sealed Corpus.

    Raises:
        DataError: A named file is missing or empty, or none is of the tasks wanted.
        UnavailableError: A bucket or hub does not answer.
    """
    if config.kind == "facts":
        return write_facts(str(output_uri), config.facts)
    found = [Piece(split=split, uri=absolute(uri)) for split, at in config.files.items() for uri in list_sources(at)]
    left_out: list[str] = []
    for name, source in config.sources.items():
        more, without = source.pieces(name)
        found, left_out = found + more, left_out + without
    found = sorted(found, key=lambda piece: (piece.split, piece.source, piece.uri))
    stamps = {uri: references.stamp(uri) for uri in dict.fromkeys(uri for piece in found for uri in _read_for(piece))}
    found = [_stamped(piece, stamps[piece.uri]) for piece in found]
    with storage.writing(output_uri) as tree:
        index = {"pieces": encode(found), "left_out": sorted(left_out)}
        (tree.path / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True))
        counts = Counter(piece.source or piece.split for piece in found)
        return tree.commit(Corpus(documents=None, sources=dict(counts), references=stamps))


def _stamped(piece: Piece, stamp: str) -> Piece:
    return replace(piece, bytes=references.size(stamp, BUNDLE_BYTES), stamps=(stamp,))


def _read_for(piece: Piece) -> list[str]:
    """The files of a piece, and of evaluation data those that are read with them."""
    named = [piece.uri, *piece.more]
    trained_on = piece.split in TRAINED_ON
    return named if trained_on else named + [file for uri in named if not hub.is_hub(uri) for file in companions(uri)]


def confirm(corpus: Corpus) -> None:
    """Check that the files a corpus refers to are still what they were.

    Raises:
        IntegrityError: One has changed or is gone.
    """
    for uri, recorded in corpus.references.items():
        references.confirm(uri, recorded)


def parents(path: str | Path) -> dict[str, str]:
    """The digest of a corpus on disk, for the lineage of what is made from any of its files."""
    return {"corpus": storage.read_manifest(path).digest}


def splits(path: str | Path) -> dict[str, list[str]]:
    """Files by split, of a corpus on disk; evaluation data is still what it was when it was gathered.

    Training may take days between the two, and a score says which data it is of.

    Raises:
        IntegrityError: A file of evaluation data, or one that is read with it, has changed or is gone.
    """
    known = all_pieces(path)
    _confirm_held_out(known, storage.read_manifest(path).facts.references)
    found: dict[str, list[str]] = {}
    for piece in known:
        found.setdefault(piece.split, []).append(piece.uri)
    return found


def _confirm_held_out(known: Sequence[Piece], stamps: Mapping[str, str]) -> None:
    """Check all that evaluation data is read from: what was recorded, and what lies beside it only now."""
    if not stamps:  # a corpus of facts holds its files itself, under its own seal
        return
    trained_on = {uri for piece in known if piece.split in TRAINED_ON for uri in _read_for(piece)}
    held_out = [uri for piece in known if piece.split not in TRAINED_ON for uri in _read_for(piece)]
    for uri in dict.fromkeys([*held_out, *(uri for uri in stamps if uri not in trained_on)]):
        references.confirm(uri, stamps.get(uri, ""))


def split_pieces(path: str | Path, split: str) -> list[Piece]:
    """Pieces of one split.

    Raises:
        ConfigError: The corpus has no such split.
    """
    known = all_pieces(path)
    found = [piece for piece in known if piece.split == split]
    if not found:
        names = dict.fromkeys(piece.split for piece in known)
        raise ConfigError(f"{path} has no split {split!r}. Known: {', '.join(names)}.")
    return found


def pieces(path: str | Path) -> list[str]:
    """What to tokenize, each as `SPLIT=FILE` or `SPLIT:SOURCE=FILE`; files inside the corpus by name.

    Files that take less time to read than a task to start go together: `SPLIT:SOURCE=FILE+3` is four.
    """
    return [_name(path, piece) for piece in _bundles(path)]


def _bundles(path: str | Path) -> list[Piece]:
    """The pieces that are trained on, small ones of a kind joined."""
    trained = (piece for piece in all_pieces(path) if piece.split in TRAINED_ON)
    kinds = itertools.groupby(trained, key=lambda piece: replace(piece, uri="", bytes=0, stamps=()))
    return [bundle for _, alike in kinds for bundle in _bundle(alike)]


def _bundle(alike: Iterable[Piece]) -> Iterator[Piece]:
    group: list[Piece] = []
    for piece in alike:
        if group and sum(other.bytes for other in group) + piece.bytes > BUNDLE_BYTES:
            yield _joined(group)
            group = []
        group.append(piece)
    if group:
        yield _joined(group)


def _joined(group: Sequence[Piece]) -> Piece:
    more = tuple(piece.uri for piece in group[1:])
    stamps = tuple(stamp for piece in group for stamp in piece.stamps)
    return replace(group[0], more=more, bytes=sum(piece.bytes for piece in group), stamps=stamps)


def locate(path: str | Path, piece: str) -> Piece:
    """What one of `pieces` stands for: its file, split, source, format and how it is read.

    Raises:
        ConfigError: The corpus has no such piece.
    """
    known = {_name(path, found): found for found in _bundles(path)}
    if piece not in known:
        raise ConfigError(f"{path} has no piece {piece!r}. {nearest(piece, known)}")
    return known[piece]


def read_piece(piece: Piece, quarantine: Quarantine | None = None) -> Iterator[Document]:
    """Yield the documents of a piece.

    Args:
        piece: What `locate` or `split_pieces` gave.
        quarantine: Takes what is no document; its limit is for the caller to check. None checks the piece's own.

    Raises:
        DataError: The file cannot be read, or too many of its documents cannot be used.
        IntegrityError: It is another than was gathered, which may show only after its last document.
    """
    apart = Quarantine(piece.quarantine_limit) if quarantine is None else quarantine
    for uri, stamp in zip((piece.uri, *piece.more), piece.stamps, strict=True):
        documents = read_documents(
            uri,
            source=piece.source,
            format=piece.format,
            positive_examples=piece.positive_examples,
            negative_examples=piece.negative_examples,
            quarantine=apart,
            stamp=stamp,
        )
        yield from (_within(document, piece.within) for document in documents) if piece.within else documents
    if quarantine is None:
        apart.check()


def _within(document: Document, folder: str) -> Document:
    return document._replace(file=str(Path(document.file).relative_to(Path(folder).absolute())))


def all_pieces(path: str | Path) -> list[Piece]:
    """The pieces of every split, evaluation data too."""
    index = Path(path) / INDEX
    if index.exists():
        return [decode(Piece, values) for values in json.loads(index.read_text())["pieces"]]
    entries = storage.read_manifest(path).files
    stamps = {Path(path) / name: local_stamp(entry.bytes, entry.sha256) for name, entry in entries.items()}
    return [
        Piece(split=split, uri=str(file), bytes=BUNDLE_BYTES, stamps=(stamps[file],), within=str(path))
        for split, glob in FACTS_FILES.items()
        for file in sorted(file for file in stamps if file.match(glob))
    ]


def _name(path: str | Path, piece: Piece) -> str:
    inside = not is_elsewhere(piece.uri) and Path(piece.uri).is_relative_to(path)
    name = str(Path(piece.uri).relative_to(path)) if inside else piece.uri
    name += f"+{len(piece.more)}" if piece.more else ""
    return f"{piece.split}:{piece.source}={name}" if piece.source else f"{piece.split}={name}"
