"""Facts about text and tokens: corpora, tokenizers, what is left out of them, and what was prepared."""

from dataclasses import dataclass, field
from typing import Any, ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class Corpus:
    """Documents as `.jsonl` files, one object with `text` (or `prompt` and `target`) a line."""

    kind: ClassVar[str] = "corpus"

    documents: int | None
    """Documents over all files; None where files are referenced and were not read."""
    sources: dict[str, int]
    """Documents per source, summing to `documents`; files per source or split where they are referenced."""
    references: dict[str, str] = field(default_factory=dict)
    """Files that lie elsewhere, by URI, with what tells their present state from another."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tokenizer:
    """A `tokenizer.json` in the Hugging Face format."""

    kind: ClassVar[str] = "tokenizer"

    vocabulary: int
    """Ids the tokenizer itself produces; a model may hold more rows."""
    fingerprint: str
    """SHA-256 of `tokenizer.json`: shards, checkpoints and endpoints must agree on it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LookedFor:
    """Evaluation items of one split, looked for in training documents."""

    files: tuple[str, ...]
    """SHA-256 of each file that they were read from, and of those read with them, sorted."""
    items: int
    unchecked: int
    """Items among them too short to be looked for, or made of nothing but what many share."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Signatures:
    """What is compared of the documents of one file: digests, MinHash signatures, overlaps with evaluation items."""

    kind: ClassVar[str] = "signatures"

    documents: int
    words: int
    bytes: int
    """Of the documents' text, as UTF-8."""
    sources: dict[str, int]
    """Documents per source, summing to `documents`."""
    signed: int
    """Documents with a MinHash signature."""
    permutations: int
    """Values of a signature; 0 where none was made."""
    scheme: str
    """How they were made; signatures are comparable where it is equal."""
    evaluation: str
    """Digest over the evaluation items looked for and how; empty where none were."""
    items: int
    """Evaluation items given."""
    unchecked: int
    """Items among them too short to be looked for, or made of nothing but what many share."""
    looked_for: dict[str, LookedFor] = field(default_factory=dict)
    """Evaluation items by the split that they are from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusions:
    """Documents that are not to be trained on, each with its reason, as JSON lines."""

    kind: ClassVar[str] = "exclusions"

    documents: int
    """Documents compared."""
    exact: int
    """Documents excluded as exact duplicates."""
    near: int
    """Documents excluded as near duplicates."""
    contaminated: int
    """Documents excluded because they overlap with an evaluation item."""
    overlapping: int
    """Documents that overlap with an evaluation item, excluded or not."""
    items: int
    """Evaluation items looked for."""
    unchecked: int
    """Items among them too short to be looked for, or made of nothing but what many share."""
    sources: dict[str, dict[str, int]]
    """By source: `documents`, `words` and `bytes` compared, and those excluded by reason."""
    config: dict[str, Any]
    """The encoded `FilterConfig`."""
    looked_for: dict[str, LookedFor] = field(default_factory=dict)
    """Evaluation items by the split that they are from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenShards:
    """Encoded documents, memory-mappable."""

    kind: ClassVar[str] = "token_shards"

    tokenizer: str
    """Fingerprint of the tokenizer that encoded them."""
    documents: int
    tokens: int
    sources: dict[str, int]
    """Tokens per source, summing to `tokens`."""
    quarantined: int = 0
    """Documents left out as faulty; `quarantine.jsonl` says which and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSummary:
    """A report on prepared data, `report.html` and `report.json`, and its totals for gates."""

    kind: ClassVar[str] = "data_summary"

    documents: int
    tokens: int
    exact: int
    """Documents left out as exact duplicates."""
    near: int
    """Documents left out as near duplicates."""
    contaminated: int
    """Documents left out because they overlap with an evaluation item."""
    overlapping: int
    """Documents that overlap with one, left out or not."""
    items: int
    """Evaluation items that were looked for."""
    quarantined: int
    mixture_off_points: float | None
    """How far the realised share of a source is off its weight, at most, in points; None without a mixture."""
    looked_for: dict[str, LookedFor] = field(default_factory=dict)
    """Evaluation items by the split that they are from."""
