"""Documents to token shards: encode in a stream, join what was encoded apart, open what was sealed."""

import contextlib
import json
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace import storage
from headrace.artifacts import FileEntry, Manifest, Tokenizer, TokenShards
from headrace.config import decode, encode
from headrace.data.documents import Document
from headrace.data.overlap import in_order
from headrace.data.quarantine import Quarantine
from headrace.data.shard_files import FileLayout, Layout, OpenShards
from headrace.data.shard_writer import Encoded, ShardWriter
from headrace.data.tokenizer import END_OF_TEXT, TextTokenizer, load_tokenizer
from headrace.errors import ConfigError, DataError, MismatchError

__all__ = ["QUARANTINE_FILE", "OpenShards", "ShardConfig", "combine_shards", "open_shards", "write_shards"]

QUARANTINE_FILE = "quarantine.jsonl"
ENCODERS = 3
"""Threads that encode, where there are as many cores: what one thread reads keeps two or three busy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """How documents are cut into batches and files; the tokens are the same for any value."""

    documents_per_batch: int = 4096
    """Documents encoded at a time."""
    characters_per_batch: int = 2**20
    """A batch ends earlier once its texts reach this length: it should fit a core's cache, not only memory."""
    tokens_per_file: int = 2**31
    """A new pair of files begins once this many are written."""

    def __post_init__(self) -> None:
        for name in ("documents_per_batch", "characters_per_batch", "tokens_per_file"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no amount. Set 1 or more.")


def write_shards(
    documents: Iterable[Document],
    tokenizer_uri: str | Path,
    output_uri: str | Path,
    config: ShardConfig,
    *,
    parents: Mapping[str, str] = {},
    quarantine: Quarantine | None = None,
) -> Manifest:
    """Encode documents and seal them as `TokenShards`.

    This thread reads, others encode, one writes and hashes. A few batches are under way at a time, so
    memory stays flat; equal documents give equal bytes whatever the batches and threads.

    Args:
        documents: What to encode, in order.
        tokenizer_uri: Where the tokenizer lies; where it is sealed, its digest becomes a parent.
        output_uri: Where the shards appear.
        config: Sizes.
        parents: Digests of what the documents were read from, by role.
        quarantine: Faults of the readers behind `documents`; kept with the shards.

    Raises:
        DataError: There is no document, or `documents` or `quarantine` raise it.
    """
    tokenizer = load_tokenizer(tokenizer_uri)
    _check_end(tokenizer, str(tokenizer_uri))
    layout = Layout(vocabulary=tokenizer.vocabulary, eos_id=tokenizer.eos_id, files=[])
    with storage.writing(output_uri) as tree:
        writer = ShardWriter(tree.path, layout, config.tokens_per_file)
        encoded = in_order(_Encode(tokenizer), _batches(documents, config), threads=_encoders())
        with contextlib.closing(writer), contextlib.closing(encoded):
            for _ in in_order(writer.append, encoded, threads=1):
                pass
        quarantined = _keep_faults(quarantine, tree.path)
        facts = _facts(layout, tokenizer.fingerprint, writer.tokens, quarantined)
        return _seal(tree, layout, facts, {**parents, **_tokenizer_parent(tokenizer_uri)}, writer.entries)


def combine_shards(uris: Sequence[str], output_uri: str | Path) -> Manifest:
    """Join shards made apart, for instance by parallel tasks, in the order given.

    Each part is hashed once. Its files are linked where the file system can, rather than copied.

    Raises:
        MismatchError: They were encoded by different tokenizers.
    """
    parts = [open_shards(uri) for uri in uris]
    if not parts:
        raise ConfigError("There are no shards to combine. Give one URI or more.")
    for part, uri in zip(parts, uris, strict=True):
        _check_tokenizer(str(uri), part.fingerprint, parts[0].fingerprint)
    layout = Layout(vocabulary=parts[0].vocabulary, eos_id=parts[0].eos_id, files=[])
    tokens: Counter[str] = Counter()
    entries: dict[str, FileEntry] = {}
    with storage.writing(output_uri) as tree:
        for part in parts:
            tokens.update(part.sources)
            entries.update(_take_files(part, tree.path, layout))
        facts = _facts(layout, parts[0].fingerprint, tokens, sum(part.stored.facts.quarantined for part in parts))
        parents = {f"shards_{number}": part.digest for number, part in enumerate(parts)}
        return _seal(tree, layout, facts, parents, entries)


def open_shards(uri: str | Path, tokenizer: str | None = None, *, verify: bool = True) -> OpenShards:
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


def _check_tokenizer(uri: str, found: str, wanted: str) -> None:
    if found != wanted:
        raise MismatchError(
            f"{uri} was encoded by tokenizer {found[:12]}, and {wanted[:12]} is wanted. Encode the corpus again."
        )


def _check_end(tokenizer: TextTokenizer, uri: str) -> None:
    if tokenizer.encode(END_OF_TEXT) != [tokenizer.eos_id]:
        raise DataError(
            f"{uri} cuts {END_OF_TEXT!r} into several tokens, and it ends every document. Make it a special token."
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


def _encoders() -> int:
    return min(ENCODERS, len(os.sched_getaffinity(0)))


class _Encode:
    """Encodes batches, in any number of threads."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._of_thread = threading.local()

    def __call__(self, batch: Sequence[Document]) -> Encoded:
        """Encode prompt, rest and end-of-text of each document; a plain one has an empty prompt.

        Prompt and target are encoded apart, so that a prompt has the same ids whatever follows it.
        """
        if not hasattr(self._of_thread, "encode"):
            self._of_thread.encode = self._tokenizer.encoder()
        pieces = [piece for one in batch for piece in (one.prompt, one.text or one.target, END_OF_TEXT)]
        try:
            ids, ends = self._of_thread.encode(pieces)
        except (TypeError, UnicodeError) as error:
            raise _unencodable(batch) or error from error
        starts_N = np.concatenate([[0], ends[2:-1:3]])
        return Encoded(
            ids=ids,
            ends_N=ends[2::3],
            prompts_N=ends[::3] - starts_N,
            sources=[document.source for document in batch],
            origins=[document.file for document in batch],
            lines=[document.line for document in batch],
        )


def _unencodable(batch: Sequence[Document]) -> DataError | None:
    """The error about the first document whose text is no UTF-8; None where all are."""
    for document in batch:
        try:
            (document.prompt + document.text + document.target).encode()
        except UnicodeEncodeError:
            where = f"{document.file}:{document.line}"
            return DataError(f"{where} has half a surrogate pair, which is no UTF-8. Repair or remove the document.")
    return None


def _keep_faults(quarantine: Quarantine | None, folder: Path) -> int:
    """Write what was quarantined, if it was not too much; returns how many."""
    if quarantine is None or not quarantine.faults:
        return 0
    quarantine.check()
    with (folder / QUARANTINE_FILE).open("w", encoding="utf-8") as file:
        for fault in quarantine.faults:
            file.write(json.dumps({"file": fault.file, "line": fault.line, "reason": fault.reason}) + "\n")
    return len(quarantine.faults)


def _take_files(part: OpenShards, folder: Path, layout: Layout) -> Iterator[tuple[str, FileEntry]]:
    """Bring a part's files to `folder` under their next names; yields what they are known to hold."""
    known = part.stored.manifest.files
    for file in part.layout.files:
        name = f"{len(layout.files):05d}"
        for suffix in (".tokens", ".index"):
            _link(part.path / f"{file.name}{suffix}", folder / f"{name}{suffix}")
            yield f"{name}{suffix}", known[f"{file.name}{suffix}"]
        layout.files.append(decode(FileLayout, encode(file) | {"name": name}))
    if QUARANTINE_FILE in known:
        with (folder / QUARANTINE_FILE).open("ab") as faults:
            faults.write((part.path / QUARANTINE_FILE).read_bytes())


def _link(source: Path, target: Path) -> None:
    """Give a sealed file a second name; copy it where the file system cannot."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _facts(layout: Layout, tokenizer: str, tokens: Mapping[str, int], quarantined: int) -> TokenShards:
    return TokenShards(
        tokenizer=tokenizer,
        documents=sum(file.documents for file in layout.files),
        tokens=sum(file.tokens for file in layout.files),
        sources=dict(sorted(tokens.items())),
        quarantined=quarantined,
    )


def _seal(
    tree: storage.Tree,
    layout: Layout,
    facts: TokenShards,
    parents: Mapping[str, str],
    entries: Mapping[str, FileEntry],
) -> Manifest:
    if not layout.files:
        raise DataError(f"{tree.uri} would hold no document: the corpora are empty. Give at least one document.")
    layout.save(tree.path)
    return tree.commit(facts, parents, entries)


def _tokenizer_parent(uri: str | Path) -> dict[str, str]:
    """Digest of the tokenizer, where it is sealed."""
    sealed = storage.exists(uri) and isinstance(storage.read_manifest(uri).facts, Tokenizer)
    return {"tokenizer": storage.read_manifest(uri).digest} if sealed else {}
