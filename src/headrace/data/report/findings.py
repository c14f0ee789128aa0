"""The numbers of a data report: of each source what there is and what was left out, and the mixture."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from headrace.artifacts import DataSummary, LookedFor
from headrace.errors import ConfigError

REASONS = ("exact", "near", "contaminated")
"""Why a document is left out."""
BINS = 32
"""Lengths are counted by powers of two: bin n has the documents of 2**n up to 2**(n+1) - 1 tokens."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceReport:
    """One source."""

    documents: int = 0
    """Documents encoded."""
    tokens: int = 0
    """End-of-text included."""
    prompt_tokens: int = 0
    """Tokens of prompts among them."""
    lengths: list[int] = field(default_factory=lambda: [0] * BINS)
    """Documents by length in tokens, in bins of `BINS`."""
    compared: int = 0
    """Documents that the filter looked at."""
    exact: int = 0
    """Documents excluded as exact duplicates."""
    near: int = 0
    """Documents excluded as near duplicates."""
    contaminated: int = 0
    """Documents excluded for an overlap with an evaluation item."""

    @property
    def excluded(self) -> int:
        """Documents excluded for any reason."""
        return self.exact + self.near + self.contaminated

    def plus(self, other: "SourceReport") -> "SourceReport":
        """Both as one."""
        sums = {f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self) if f.name != "lengths"}
        return SourceReport(**sums, lengths=[a + b for a, b in zip(self.lengths, other.lengths, strict=True)])


@dataclass(frozen=True, kw_only=True, slots=True)
class Mixed:
    """One source of a mixture."""

    weight: float
    """Share of tokens asked for, between 0 and 1."""
    tokens: int
    """Tokens drawn."""
    share: float
    """Share of tokens realised."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DataReport:
    """All that a report shows; the lists are whole, however many rows its page has."""

    documents: int
    tokens: int
    sources: dict[str, SourceReport]
    compared: int = 0
    exact: int = 0
    near: int = 0
    contaminated: int = 0
    overlapping: int = 0
    """Documents that overlap with an evaluation item, excluded or not."""
    items: int = 0
    """Evaluation items looked for."""
    unchecked: int = 0
    """Items among them that could not be looked for."""
    looked_for: dict[str, LookedFor] = field(default_factory=dict)
    """Evaluation items by the split that they are from."""
    quarantined: int = 0
    mixture: dict[str, Mixed] = field(default_factory=dict)
    exclusions: list[dict[str, Any]] = field(default_factory=list)
    """The first near duplicates, as `Exclusions` has them."""
    overlaps: list[dict[str, Any]] = field(default_factory=list)
    """The first overlaps with evaluation items."""
    faults: list[dict[str, Any]] = field(default_factory=list)
    """The first quarantined documents."""
    parents: dict[str, str] = field(default_factory=dict)
    """Digests of the artifacts it is about."""

    def summary(self) -> DataSummary:
        """The totals."""
        names = ("documents", "tokens", *REASONS, "overlapping", "items", "looked_for", "quarantined")
        off = max((100 * abs(one.share - one.weight) for one in self.mixture.values()), default=None)
        return DataSummary(**{name: getattr(self, name) for name in names}, mixture_off_points=off)


def mix(weights: Mapping[str, float], tokens: Mapping[str, int]) -> dict[str, Mixed]:
    """Hold the shares that were realised against the weights that were asked for.

    Raises:
        ConfigError: Tokens of a source that has no weight.
    """
    for name in tokens:
        if name not in weights:
            raise ConfigError(f"The mixture drew from {name!r}, which has no weight. Known: {', '.join(weights)}.")
    asked, drawn = sum(weights.values()) or 1.0, sum(tokens.values()) or 1
    return {
        name: Mixed(weight=weight / asked, tokens=tokens.get(name, 0), share=tokens.get(name, 0) / drawn)
        for name, weight in weights.items()
    }
