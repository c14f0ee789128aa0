"""A corpus and its splits: facts out of packages, or files that lie somewhere else.

`text` is trained on as it stands, `instructions` are prompts with targets; every other split is evaluation
data under the name that an `EvalConfig` uses. Files are referenced, not copied; what they were when they
were referenced is part of the corpus's digest.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from headrace import buckets, storage
from headrace.artifacts import Corpus, Manifest
from headrace.data.documents import list_sources
from headrace.data.facts import FactsConfig, write_facts
from headrace.errors import ConfigError, IntegrityError

INDEX = "corpus.json"
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

    def __post_init__(self) -> None:
        if self.kind == "files" and not self.files:
            raise ConfigError("corpus.files is empty: there is nothing to read. Set corpus.files.text=PATH.")


def gather_corpus(config: CorpusConfig, output_uri: str | Path) -> Manifest:
    """Write the facts, or an index of the files, as a sealed Corpus.

    Raises:
        DataError: A named file is missing or empty.
    """
    if config.kind == "facts":
        return write_facts(str(output_uri), config.facts)
    # Absolute, since the steps that read them run in other directories.
    files = {
        split: [source if buckets.is_bucket(source) else str(Path(source).absolute()) for source in list_sources(uri)]
        for split, uri in config.files.items()
    }
    stamps = {uri: stamp(uri) for uris in files.values() for uri in uris}
    with storage.writing(output_uri) as tree:
        (tree.path / INDEX).write_text(json.dumps(files, indent=1, sort_keys=True))
        counts = {split: len(uris) for split, uris in files.items()}
        return tree.commit(Corpus(documents=None, sources=counts, references=stamps))


def stamp(uri: str) -> str:
    """What tells one state of a referenced file from another: its generation, or size and SHA-256."""
    if buckets.is_bucket(uri):
        return buckets.generation(uri)
    return f"{Path(uri).stat().st_size}:{storage.hash_file(Path(uri))}"


def confirm(corpus: Corpus) -> None:
    """Check that the files a corpus refers to are still what they were.

    Raises:
        IntegrityError: One has changed or is gone.
    """
    for uri, recorded in corpus.references.items():
        gone = not buckets.is_bucket(uri) and not Path(uri).exists()
        if gone or stamp(uri) != recorded:
            raise IntegrityError(f"{uri} changed since the corpus was gathered. Gather it again.")


def splits(path: str | Path) -> dict[str, list[str]]:
    """Files by split, of a corpus on disk."""
    index = Path(path) / INDEX
    if index.exists():
        files: Mapping[str, list[str]] = json.loads(index.read_text())
        return dict(files)
    found = {split: sorted(str(p) for p in Path(path).glob(glob)) for split, glob in FACTS_FILES.items()}
    return {split: files for split, files in found.items() if files}


def split_files(path: str | Path, split: str) -> list[str]:
    """Files of one split.

    Raises:
        ConfigError: The corpus has no such split.
    """
    known = splits(path)
    if split not in known:
        raise ConfigError(f"{path} has no split {split!r}. Known: {', '.join(known)}.")
    return known[split]


def pieces(path: str | Path) -> list[str]:
    """The files to tokenize, each as `SPLIT=FILE`; those inside the corpus by name, so that they may move."""
    root = Path(path)
    return [
        f"{split}={Path(uri).relative_to(root) if Path(uri).is_relative_to(root) else uri}"
        for split, uris in splits(path).items()
        if split in TRAINED_ON
        for uri in uris
    ]


def locate(path: str | Path, piece: str) -> tuple[str, str]:
    """Split and full URI of one of `pieces`."""
    split, _, name = piece.partition("=")
    inside = not buckets.is_bucket(name) and not name.startswith("/")
    return split, str(Path(path) / name) if inside else name
