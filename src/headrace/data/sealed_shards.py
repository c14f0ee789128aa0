"""Token shards as artifacts: sealed once they are written, opened once they are sealed."""

import json
from collections.abc import Mapping
from pathlib import Path

from headrace import storage
from headrace.artifacts import FileEntry, Manifest, TokenShards
from headrace.data.quarantine import Quarantine
from headrace.data.shard_files import Layout, OpenShards
from headrace.errors import DataError, MismatchError

QUARANTINE_FILE = "quarantine.jsonl"


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
        check_tokenizer(str(uri), stored.facts.tokenizer, tokenizer)
    return OpenShards(stored)


def check_tokenizer(uri: str, found: str, wanted: str) -> None:
    """Refuse shards of another tokenizer.

    Raises:
        MismatchError: The fingerprints differ.
    """
    if found != wanted:
        raise MismatchError(
            f"{uri} was encoded by tokenizer {found[:12]}, and {wanted[:12]} is wanted. Encode the corpus again."
        )


def keep_faults(quarantine: Quarantine | None, folder: Path) -> int:
    """Write what was quarantined, if it was not too much; returns how many."""
    if quarantine is None or not quarantine.faults:
        return 0
    quarantine.check()
    with (folder / QUARANTINE_FILE).open("w", encoding="utf-8") as file:
        for fault in quarantine.faults:
            file.write(json.dumps({"file": fault.file, "line": fault.line, "reason": fault.reason}) + "\n")
    return len(quarantine.faults)


def describe(layout: Layout, tokenizer: str, tokens: Mapping[str, int], quarantined: int) -> TokenShards:
    """Facts about the files of `layout`."""
    return TokenShards(
        tokenizer=tokenizer,
        documents=sum(file.documents for file in layout.files),
        tokens=sum(file.tokens for file in layout.files),
        sources=dict(sorted(tokens.items())),
        quarantined=quarantined,
    )


def seal(
    tree: storage.Tree,
    layout: Layout,
    facts: TokenShards,
    parents: Mapping[str, str],
    entries: Mapping[str, FileEntry],
) -> Manifest:
    """Write `shards.json` and the manifest.

    Args:
        tree: Where the files of `layout` lie already.
        layout: What they hold.
        facts: What `describe` gave.
        parents: Digests of what they were made from, by role.
        entries: What is known of the files, so that they are not read again.

    Raises:
        DataError: There is no document.
    """
    if not layout.files:
        raise DataError(f"{tree.uri} would hold no document: the corpora are empty. Give at least one document.")
    layout.save(tree.path)
    return tree.commit(facts, parents, entries)
