"""Documents of one source in the order in which they are read, from any place on.

Shape letter: N parts of documents.
"""

import functools
from dataclasses import dataclass, fields

import numpy as np

from headrace.data.draws import Integers, Shuffle
from headrace.data.shard_files import OpenShards


@dataclass(frozen=True, slots=True)
class Place:
    """Where in a source reading stands."""

    epoch: int = 0
    document: int = 0
    """How many documents of this epoch's order are behind."""
    offset: int = 0
    """Tokens of the next document already used."""


@dataclass(frozen=True, slots=True)
class Chunks:
    """Parts of documents, in reading order."""

    epochs_N: Integers
    turns_N: Integers
    """How many documents of the epoch come before."""
    documents_N: Integers
    starts_N: Integers
    stops_N: Integers
    ends_N: Integers
    """Tokens of the whole document."""

    @property
    def lengths_N(self) -> Integers:
        """Tokens of each."""
        return self.stops_N - self.starts_N

    def take(self, order_N: Integers) -> "Chunks":
        """Some of them, by number."""
        return Chunks(*(getattr(self, column.name)[order_N] for column in fields(self)))


class Reader:
    """Reads a source round and round; each epoch has an order of its own.

    Args:
        source: Its documents; only their lengths are looked at.
        words: What decides the orders.
    """

    def __init__(self, source: OpenShards, words: tuple[int, int]) -> None:
        self._source = source
        self._order = functools.lru_cache(maxsize=2)(lambda epoch: Shuffle(len(source), *words, epoch))

    def read(self, place: Place, tokens: int) -> Chunks:
        """Take documents from a place on until there are so many tokens; the last may be taken in part."""
        parts, budget = [], tokens
        while budget > 0:
            chunks = self._read_epoch(place, budget)
            parts.append(chunks)
            budget -= int(chunks.lengths_N.sum())
            behind = int(chunks.turns_N[-1]) + 1
            place = Place(place.epoch, behind) if behind < len(self._source) else Place(place.epoch + 1)
        columns = ([getattr(part, column.name) for part in parts] for column in fields(Chunks))
        return Chunks(*(np.concatenate(column) for column in columns))

    def _read_epoch(self, place: Place, budget: int) -> Chunks:
        """Take from one epoch alone."""
        likely = 16 + budget * len(self._source) // max(self._source.tokens, 1)
        documents_N = self._order(place.epoch).part(place.document, place.document + likely)
        ends_N = self._source.lengths(documents_N)
        starts_N = np.zeros(len(documents_N), np.int64)
        starts_N[0] = place.offset
        before_N = np.cumsum(ends_N - starts_N) - (ends_N - starts_N)
        stops_N = np.minimum(ends_N, starts_N + budget - before_N)
        taken = int(np.searchsorted(before_N, budget))
        turns_N = place.document + np.arange(len(documents_N))
        epochs_N = np.full(len(documents_N), place.epoch)
        columns = (epochs_N, turns_N, documents_N, starts_N, stops_N, ends_N)
        return Chunks(*(column[:taken] for column in columns))
