"""What a corpus was gathered from, as the lineage of a run names it."""

import hashlib
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from headrace.data.corpus import CorpusConfig, all_pieces


class Gathered(NamedTuple):
    """One data set that a corpus refers to."""

    uri: str
    """Where it lies, as the configuration has it."""
    digest: str
    """SHA-256 over the states of its files when they were gathered."""


def origins(path: str | Path, config: CorpusConfig) -> dict[str, Gathered]:
    """The data sets of a corpus on disk by source, or by split where they have no name; none where it holds facts.

    Args:
        path: The corpus.
        config: What it was gathered by.
    """
    if config.kind == "facts":
        return {}
    uris = config.files | {name: source.uri for name, source in config.sources.items()}
    states: defaultdict[str, list[str]] = defaultdict(list)
    for piece in all_pieces(path):
        states[piece.source or piece.split] += piece.stamps
    return {
        name: Gathered(uris[name], hashlib.sha256("\n".join(found).encode()).hexdigest())
        for name, found in states.items()
    }
