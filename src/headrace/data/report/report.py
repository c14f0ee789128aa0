"""A report on prepared data, as `report.html` to be read and `report.json` for scripts and gates.

It says how many documents and tokens each source has and how long they are, what was left out and why,
which evaluation items were found where, what could not be read, and what the mixture came to.

Shape letter: N documents of one block.
"""

import itertools
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from headrace import storage
from headrace.artifacts import Manifest
from headrace.config import encode
from headrace.data.filtering.filter import OpenExclusions, load_exclusions
from headrace.data.report.findings import BINS, REASONS, DataReport, SourceReport, mix
from headrace.data.report.page import page
from headrace.data.shard_files import RECORD, OpenShards
from headrace.data.shards import open_shards
from headrace.errors import MismatchError

QUARANTINE_FILE = "quarantine.jsonl"
PAGE_FILE, NUMBERS_FILE = "report.html", "report.json"
LISTED = 1000
"""Rows of each list that a report holds; the artifacts have them all."""
BLOCK_DOCUMENTS = 2**18


def write_report(
    tokens: Mapping[str, str | Path],
    exclusions_uri: str | Path | None,
    output_uri: str | Path,
    *,
    weights: Mapping[str, float] | None = None,
    drawn: Mapping[str, int] | None = None,
    title: str = "Prepared data",
) -> Manifest:
    """Seal a `DataSummary` of `report.html`, to be read, and `report.json`, the same for scripts.

    Args:
        tokens: `TokenShards` by split, such as `text` and `instructions`.
        exclusions_uri: `Exclusions` of the documents; None where nothing was filtered.
        output_uri: Where both appear.
        weights: What the mixture asks for, by source.
        drawn: Tokens that a loader drew under it, by source.
        title: What the page is headed with.

    Raises:
        IntegrityError: An artifact is missing or altered.
        MismatchError: Shards were not written without what these exclusions leave out.
        ConfigError: The mixture drew from a source without a weight.
    """
    exclusions = load_exclusions(exclusions_uri) if exclusions_uri is not None else None
    shards = {name: open_shards(uri) for name, uri in tokens.items()}
    if exclusions is not None:
        _check_filtered(shards, exclusions)
    report = measure(shards, exclusions, weights, drawn)
    with storage.writing(output_uri) as tree:
        (tree.path / NUMBERS_FILE).write_text(json.dumps(encode(report), indent=1) + "\n", encoding="utf-8")
        (tree.path / PAGE_FILE).write_text(page(report, title), encoding="utf-8")
        return tree.commit(report.summary(), report.parents)


def _check_filtered(shards: Mapping[str, OpenShards], exclusions: OpenExclusions) -> None:
    """Refuse shards that hold what these exclusions are said to have left out."""
    for one in shards.values():
        if one.stored.manifest.parents.get("exclusions") != exclusions.digest:
            raise MismatchError(
                f"{one.path} was not written without what exclusions {exclusions.digest[:12]} leave out. Report on "
                "shards with their own exclusions."
            )


def measure(
    shards: Mapping[str, OpenShards],
    exclusions: OpenExclusions | None,
    weights: Mapping[str, float] | None = None,
    drawn: Mapping[str, int] | None = None,
) -> DataReport:
    """Gather the numbers."""
    counted: defaultdict[str, Counter[str]] = defaultdict(Counter)
    lengths: defaultdict[str, Any] = defaultdict(lambda: np.zeros(BINS, np.int64))
    for one in shards.values():
        for source, documents, tokens, prompts, bins in _count(one):
            counted[source].update(documents=documents, tokens=tokens, prompt_tokens=prompts)
            lengths[source] += bins
    filtered = exclusions.facts.sources if exclusions is not None else {}
    for source, numbers in filtered.items():
        counted[source].update({"compared": numbers["documents"], **{name: numbers[name] for name in REASONS}})
    sources = {
        source: SourceReport(**counts, lengths=lengths[source].tolist()) for source, counts in sorted(counted.items())
    }
    faults = [fault for one in shards.values() for fault in _faults(one.path)]
    found = _filtered(exclusions) if exclusions is not None else {}
    return DataReport(
        documents=sum(len(one) for one in shards.values()),
        tokens=sum(one.tokens for one in shards.values()),
        sources=sources,
        quarantined=len(faults),
        faults=faults[:LISTED],
        mixture=mix(weights, drawn or {}) if weights else {},
        parents={name: one.digest for name, one in shards.items()}
        | ({"exclusions": exclusions.digest} if exclusions is not None else {}),
        **found,
    )


def _filtered(exclusions: OpenExclusions) -> dict[str, Any]:
    facts = exclusions.facts
    names = (*REASONS, "overlapping", "items", "unchecked", "looked_for")
    near = (record for record in exclusions.records() if record["kind"] != "contaminated")
    return {
        "compared": facts.documents,
        **{name: getattr(facts, name) for name in names},
        "exclusions": list(itertools.islice(near, LISTED)),
        "overlaps": list(itertools.islice(exclusions.overlaps(), LISTED)),
    }


def _count(shards: OpenShards) -> Iterator[tuple[str, int, int, int, Any]]:
    """Source, documents, tokens, prompt tokens and lengths by bin, a block of the index at a time."""
    for file in shards.layout.files:
        index = np.memmap(shards.path / f"{file.name}.index", RECORD, "r")
        for start in range(0, len(index), BLOCK_DOCUMENTS):
            block = index[start : start + BLOCK_DOCUMENTS]
            before = int(index["end"][start - 1]) if start else 0
            lengths_N = np.diff(block["end"].astype(np.int64), prepend=before)
            bins_N = np.frexp(lengths_N)[1] - 1
            for number in np.unique(block["source"]).tolist():
                mine = block["source"] == number
                tokens, prompts = int(lengths_N[mine].sum()), int(block["prompt_tokens"][mine].sum())
                bins = np.bincount(bins_N[mine], minlength=BINS)
                yield file.sources[number], int(np.count_nonzero(mine)), tokens, prompts, bins


def _faults(folder: Path) -> list[dict[str, Any]]:
    """Documents that the artifact says could not be read."""
    path = folder / QUARANTINE_FILE
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []
