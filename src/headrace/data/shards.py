"""Encoded documents on disk: written in a stream, read through memory maps.

An artifact holds pairs of files: `00000.tokens`, the ids of its documents end to end, each document
closed by end-of-text, and `00000.index`, one record a document. `shards.json` lists them with the
names behind the source numbers. Ids take two bytes where the vocabulary allows it, else four.
"""

import itertools
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace import storage
from headrace.artifacts import Manifest, Tokenizer, TokenShards
from headrace.config import decode, encode
from headrace.data.documents import Document, read_documents, sealed_parents
from headrace.data.tokenizer import TextTokenizer, load_tokenizer
from headrace.errors import ConfigError, DataError, MismatchError

LAYOUT_FILE = "shards.json"
RECORD = np.dtype([("end", "<u8"), ("prompt_tokens", "<u4"), ("source", "<u4")])
"""Where a document ends in its file, how many of its tokens are prompt, and its source's number."""
Ids = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """How documents are cut into batches and files; the tokens are the same for any value."""

    documents_per_batch: int = 4096
    """Documents encoded at a time."""
    characters_per_batch: int = 2**23
    """A batch ends earlier once its texts reach this length, so that long documents do not fill memory."""
    tokens_per_file: int = 2**29
    """A new pair of files begins once this many are written."""

    def __post_init__(self) -> None:
        for name in ("documents_per_batch", "characters_per_batch", "tokens_per_file"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no amount. Set 1 or more.")


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


def write_shards(
    corpus_uris: Sequence[str], tokenizer_uri: str | Path, output_uri: str | Path, config: ShardConfig
) -> Manifest:
    """Encode corpora and seal them as `TokenShards`.

    Memory stays flat: one batch of documents at a time is encoded and appended.

    Raises:
        DataError: A corpus cannot be read.
    """
    tokenizer = load_tokenizer(tokenizer_uri)
    layout = Layout(vocabulary=tokenizer.vocabulary, eos_id=tokenizer.eos_id, files=[])
    tokens_by_source: Counter[str] = Counter()
    documents = itertools.chain.from_iterable(map(read_documents, corpus_uris))
    with storage.writing(output_uri) as tree:
        for batch in _batches(documents, config):
            if not layout.files or layout.files[-1].tokens >= config.tokens_per_file:
                layout.files.append(FileLayout(name=f"{len(layout.files):05d}"))
            _append(batch, _encode(batch, tokenizer), tree.path, layout, tokens_by_source)
        return _seal(tree, layout, tokenizer.fingerprint, tokens_by_source, _parents(corpus_uris, tokenizer_uri))


def combine_shards(uris: Sequence[str], output_uri: str | Path) -> Manifest:
    """Join shards made apart, for instance by parallel tasks, in the order given.

    Raises:
        MismatchError: They were encoded by different tokenizers.
    """
    parts = [open_shards(uri) for uri in uris]
    if not parts:
        raise ConfigError("There are no shards to combine. Give one URI or more.")
    first = parts[0]
    layout = Layout(vocabulary=first.vocabulary, eos_id=first.eos_id, files=[])
    tokens_by_source: Counter[str] = Counter()
    parents = {f"shards_{number}": part.digest for number, part in enumerate(parts)}
    with storage.writing(output_uri) as tree:
        for part, uri in zip(parts, uris, strict=True):
            _check_tokenizer(str(uri), part.fingerprint, first.fingerprint)
            tokens_by_source.update(part.sources)
            for file in part.layout.files:
                name = f"{len(layout.files):05d}"
                for suffix in (".tokens", ".index"):
                    shutil.copyfile(part.path / f"{file.name}{suffix}", tree.path / f"{name}{suffix}")
                layout.files.append(decode(FileLayout, encode(file) | {"name": name}))
        return _seal(tree, layout, first.fingerprint, tokens_by_source, parents)


def open_shards(uri: str | Path, tokenizer: str | None = None, *, verify: bool = True) -> "OpenShards":
    """Open a `TokenShards` artifact.

    Args:
        uri: Where it stands.
        tokenizer: Fingerprint the tokens must have been encoded under; None accepts any.
        verify: Hash every file first.

    Raises:
        MismatchError: Another tokenizer encoded them.
        IntegrityError: A file is missing, short or altered.
    """
    stored = storage.read(uri, TokenShards, verify=verify)
    if tokenizer is not None:
        _check_tokenizer(str(uri), stored.facts.tokenizer, tokenizer)
    return OpenShards(stored)


class OpenShards:
    """Documents by number, in the order they were written; nothing is read before it is asked for."""

    def __init__(self, stored: storage.Stored[TokenShards]) -> None:
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

    def __len__(self) -> int:
        return int(self._first[-1])

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

    def prompted(self) -> int:
        """Documents that have a prompt."""
        return sum(file.prompted for file in self.layout.files)

    def lengths(self, numbers_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Tokens of each document, end-of-text included."""
        ends = self._field("end", numbers_N)
        starts = self._field("end", np.maximum(numbers_N - 1, 0))
        return ends - np.where(np.isin(numbers_N, self._first), 0, starts)

    def prompts(self, numbers_N: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Prompt tokens of each document."""
        return self._field("prompt_tokens", numbers_N)

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
        file = int(np.searchsorted(self._first, number, side="right")) - 1
        return file, number - int(self._first[file])


def _map(path: Path, dtype: np.dtype[Any]) -> Ids:
    """A plain array over a memory map: slicing `np.memmap` itself costs ten times as much."""
    return np.asarray(np.memmap(path, dtype=dtype, mode="r")).view(np.ndarray)


def _check_tokenizer(uri: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise MismatchError(
            f"{uri} was encoded by tokenizer {found[:12]}, and {wanted[:12]} is wanted. Encode the corpus again."
        )


def _batches(documents: Iterable[Document], config: ShardConfig) -> Iterator[list[Document]]:
    """Group documents up to a number of them and a number of characters."""
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text) + len(document.prompt) + len(document.target)
        if len(batch) == config.documents_per_batch or characters >= config.characters_per_batch:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def _encode(batch: Sequence[Document], tokenizer: TextTokenizer) -> list[tuple[Ids, Ids]]:
    """Prompt and rest of each document; a plain document has an empty prompt.

    Prompt and target are encoded apart, so that a prompt has the same ids whatever follows it.
    """
    texts = [text for document in batch for text in (document.prompt, document.text or document.target)]
    ids = tokenizer.encode_batch(texts)
    return list(zip(ids[::2], ids[1::2], strict=True))


def _append(
    batch: Sequence[Document], ids: Sequence[tuple[Ids, Ids]], folder: Path, layout: Layout, tokens: Counter[str]
) -> None:
    """Add a batch to the last pair of files and count it."""
    file = layout.files[-1]
    eos = np.array([layout.eos_id])
    records = np.empty(len(batch), RECORD)
    lengths = np.array([len(prompt) + len(rest) + 1 for prompt, rest in ids])
    records["end"] = file.tokens + np.cumsum(lengths)
    records["prompt_tokens"] = [len(prompt) for prompt, _ in ids]
    numbers = {name: number for number, name in enumerate(file.sources)}
    records["source"] = [numbers.setdefault(document.source, len(numbers)) for document in batch]
    for document, length in zip(batch, lengths.tolist(), strict=True):
        tokens[document.source] += length
    with (folder / f"{file.name}.tokens").open("ab") as stream:
        pieces = [piece for prompt, rest in ids for piece in (prompt, rest, eos)]
        stream.write(np.concatenate(pieces).astype(layout.dtype).tobytes())
    with (folder / f"{file.name}.index").open("ab") as stream:
        stream.write(records.tobytes())
    file.sources = list(numbers)
    file.documents += len(batch)
    file.tokens += int(lengths.sum())
    file.prompted += int(np.count_nonzero(records["prompt_tokens"]))


def _seal(
    tree: storage.Tree, layout: Layout, tokenizer: str, tokens: Counter[str], parents: dict[str, str]
) -> Manifest:
    if not layout.files:
        raise DataError(f"{tree.uri} would hold no document: the corpora are empty. Give at least one document.")
    layout.save(tree.path)
    facts = TokenShards(
        tokenizer=tokenizer,
        documents=sum(file.documents for file in layout.files),
        tokens=sum(file.tokens for file in layout.files),
        sources=dict(sorted(tokens.items())),
    )
    return tree.commit(facts, parents)


def _parents(corpus_uris: Sequence[str], tokenizer_uri: str | Path) -> dict[str, str]:
    """Digests of the corpora and of the tokenizer, where they are sealed."""
    sealed = storage.exists(tokenizer_uri) and isinstance(storage.read_manifest(tokenizer_uri).facts, Tokenizer)
    tokenizer = {"tokenizer": storage.read_manifest(tokenizer_uri).digest} if sealed else {}
    return sealed_parents(corpus_uris) | tokenizer
