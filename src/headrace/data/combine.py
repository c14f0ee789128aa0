"""Shards that were made apart, joined: linked where the file system can, and not hashed twice."""

import os
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from headrace import storage
from headrace.artifacts import FileEntry, Manifest
from headrace.config import decode, encode
from headrace.data.sealed_shards import QUARANTINE_FILE, check_tokenizer, describe, open_shards, seal
from headrace.data.shard_files import FileLayout, Layout, OpenShards
from headrace.errors import ConfigError


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
        check_tokenizer(str(uri), part.fingerprint, parts[0].fingerprint)
    layout = Layout(vocabulary=parts[0].vocabulary, eos_id=parts[0].eos_id, files=[])
    tokens: Counter[str] = Counter()
    entries: dict[str, FileEntry] = {}
    with storage.writing(output_uri) as tree:
        for part in parts:
            tokens.update(part.sources)
            entries.update(_take_files(part, tree.path, layout))
        facts = describe(layout, parts[0].fingerprint, tokens, sum(part.stored.facts.quarantined for part in parts))
        parents = {f"shards_{number}": part.digest for number, part in enumerate(parts)}
        return seal(tree, layout, facts, parents, entries)


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
