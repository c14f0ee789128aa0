"""Corpora to token shards: encode in a stream, join what was encoded apart, open what was sealed."""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np

from headrace import storage
from headrace.artifacts import Manifest, Tokenizer, TokenShards
from headrace.config import decode, encode
from headrace.data.documents import Document, read_documents, sealed_parents
from headrace.data.quarantine import Quarantine
from headrace.data.shard_files import RECORD, FileLayout, Ids, Layout, OpenShards
from headrace.data.tokenizer import TextTokenizer, load_tokenizer
from headrace.errors import ConfigError, DataError, MismatchError

__all__ = ["OpenShards", "ShardConfig", "combine_shards", "open_shards", "write_shards"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """How documents are cut into batches and files; the tokens are the same for any value."""

    documents_per_batch: int = 4096
    """Documents encoded at a time."""
    characters_per_batch: int = 2**23
    """A batch ends earlier once its texts reach this length, so that long documents do not fill memory."""
    tokens_per_file: int = 2**31
    """A new pair of files begins once this many are written."""

    def __post_init__(self) -> None:
        for name in ("documents_per_batch", "characters_per_batch", "tokens_per_file"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is no amount. Set 1 or more.")


def write_shards(
    corpora: Sequence[str] | Iterator[Document],
    tokenizer_uri: str | Path,
    output_uri: str | Path,
    config: ShardConfig,
    *,
    parents: Mapping[str, str] = MappingProxyType({}),
    quarantine: Quarantine | None = None,
) -> Manifest:
    """Encode corpora, given by URI or as documents, and seal them as `TokenShards`.

    Memory stays flat: one batch of documents at a time is encoded and appended.

    Raises:
        DataError: A corpus cannot be read.
    """
    tokenizer = load_tokenizer(tokenizer_uri)
    layout = Layout(vocabulary=tokenizer.vocabulary, eos_id=tokenizer.eos_id, files=[])
    tokens_by_source: Counter[str] = Counter()
    uris = corpora if isinstance(corpora, Sequence) else ()
    documents = chain.from_iterable(map(read_documents, corpora)) if isinstance(corpora, Sequence) else corpora
    with storage.writing(output_uri) as tree:
        for batch in _batches(documents, config):
            if not layout.files or layout.files[-1].tokens >= config.tokens_per_file:
                layout.files.append(FileLayout(name=f"{len(layout.files):05d}"))
            _append(batch, _encode(batch, tokenizer), tree.path, layout, tokens_by_source)
        if quarantine is not None:
            quarantine.check()
        return _seal(
            tree, layout, tokenizer.fingerprint, tokens_by_source, dict(parents) | _parents(uris, tokenizer_uri)
        )


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
