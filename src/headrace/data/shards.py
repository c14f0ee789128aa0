"""Documents to token shards, in a stream: read, encoded, written and hashed at the same time."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace import storage
from headrace.artifacts import Manifest, Tokenizer
from headrace.data.combine import combine_shards
from headrace.data.documents import Document
from headrace.data.encoding import Encoder, cut_batches
from headrace.data.overlap import in_order
from headrace.data.quarantine import Quarantine
from headrace.data.sealed_shards import QUARANTINE_FILE, describe, keep_faults, open_shards, seal
from headrace.data.shard_files import Layout, OpenShards
from headrace.data.shard_writer import ShardWriter
from headrace.data.tokenizer import END_OF_TEXT, TextTokenizer, load_tokenizer
from headrace.errors import ConfigError, DataError

__all__ = ["QUARANTINE_FILE", "OpenShards", "ShardConfig", "combine_shards", "open_shards", "write_shards"]

ENCODERS = 3
"""Threads that encode, where there are cores for them beside the one that reads, which keeps two busy."""
READS_AHEAD = 6
"""Batches that may wait for each encoder, so that it goes on while Python's lock keeps the reader waiting."""
WRITES_AHEAD = 6
"""Encoded batches that may wait for the disk: as much as comes up while it is made to keep what it has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardConfig:
    """How documents are cut into batches and files; the tokens are the same for any value."""

    documents_per_batch: int = 4096
    """Documents encoded at a time."""
    characters_per_batch: int = 2**21
    """A batch ends earlier once its texts reach this length, so that long documents do not fill memory."""
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
    may_be_empty: bool = False,
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
        may_be_empty: Whether there may be no document, as of a file that holds duplicates alone.

    Raises:
        DataError: There is no document, or `documents` or `quarantine` raise it.
    """
    tokenizer = load_tokenizer(tokenizer_uri)
    _check_end(tokenizer, str(tokenizer_uri))
    layout = Layout(vocabulary=tokenizer.vocabulary, eos_id=tokenizer.eos_id, files=[])
    with storage.writing(output_uri) as tree:
        writer = ShardWriter(tree.path, layout, config.tokens_per_file)
        batches = cut_batches(documents, config.documents_per_batch, config.characters_per_batch)
        encoded = in_order(Encoder(tokenizer), batches, threads=_encoders(), ahead=READS_AHEAD)
        with contextlib.closing(writer), contextlib.closing(encoded):
            for _ in in_order(writer.append, encoded, threads=1, ahead=WRITES_AHEAD):
                pass
        quarantined = keep_faults(quarantine, tree.path)
        facts = describe(layout, tokenizer.fingerprint, writer.tokens, quarantined)
        return seal(tree, layout, facts, {**parents, **_tokenizer_parent(tokenizer_uri)}, writer.entries, may_be_empty)


def _check_end(tokenizer: TextTokenizer, uri: str) -> None:
    if tokenizer.encode(END_OF_TEXT) != [tokenizer.eos_id]:
        raise DataError(
            f"{uri} cuts {END_OF_TEXT!r} into several tokens, and it ends every document. Make it a special token."
        )


def _encoders() -> int:
    return max(1, min(ENCODERS, (os.cpu_count() or 1) - 1))


def _tokenizer_parent(uri: str | Path) -> dict[str, str]:
    """Digest of the tokenizer, where it is sealed."""
    sealed = storage.exists(uri) and isinstance(storage.read_manifest(uri).facts, Tokenizer)
    return {"tokenizer": storage.read_manifest(uri).digest} if sealed else {}
