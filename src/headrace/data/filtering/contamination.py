"""Find evaluation items in training documents by the word n-grams that they share.

Thirteen words in lower case and without punctuation that stand in both are an overlap, as GPT-3 and the Pile
decided it; shorter items are looked for whole, down to a least length, below which they are counted as not
checked. What many items share is the wording of their task, not an item, and is left out; an item of nothing
else counts as not checked too. n-grams are compared by 64-bit hashes, and the words themselves before an
overlap is reported.

Source: Brown et al., Language Models are Few-Shot Learners, arXiv:2005.14165, appendix C; Gao et al., The Pile,
arXiv:2101.00027. They cut the surroundings of an overlap out of a document; here the whole document is named.

Shape letters: D documents, W words, N n-grams of the items.
"""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.artifacts import LookedFor
from headrace.data.filtering.words import Counts, Hashes, Words, hash_words, ngrams, split_words, words_at

Places: TypeAlias = defaultdict[int, defaultdict[int, list[tuple[int, int]]]]
"""By document and item: number of the first word, and how many words, of each n-gram that both have."""

FILTER_BITS = 22
"""Size of the table of 4 MiB that most n-grams of a corpus are turned away by."""
ITEMS_AT_ONCE = 4096
WORDS_AT_ONCE = 2**16


@dataclass(frozen=True, slots=True)
class Overlap:
    """Words that a document shares with an evaluation item."""

    document: int
    """Number of the document in its batch."""
    item: str
    """Id of the evaluation item."""
    words: str
    """The longest run of shared words, one space between them."""
    ngrams: int
    """Positions of the document at which a shared n-gram begins."""


class EvaluationIndex:
    """The n-grams of evaluation items, to be looked for in training documents.

    Memory: 16 bytes an n-gram, and the items' words.

    Args:
        items: Id and text of each; an id may come several times.
        words: Length of the n-grams.
        least_words: Items shorter than `words` are looked for whole if they have this many.
        shared_items: An n-gram that more items than this have in common says nothing about any of them.
    """

    def __init__(
        self, items: Iterable[tuple[str, str]], *, words: int = 13, least_words: int = 8, shared_items: int = 10
    ) -> None:
        self.names: list[str] = []
        self._words: list[list[bytes]] = []
        seal = hashlib.sha256(f"{words} {least_words} {shared_items}".encode())
        tables: defaultdict[int, list[tuple[Hashes, Counts]]] = defaultdict(list)
        for batch in _batches(items):
            for name, text in batch:
                seal.update(json.dumps([name, text]).encode())
            for length, found in _index_batch(batch, len(self.names), words, least_words).items():
                tables[length].append(found)
            self.names += [name for name, _ in batch]
            self._words += [split_words(text) for _, text in batch]
        self.digest = seal.hexdigest()
        """Equal for equal items that are looked for in the same way."""
        self._tables = {length: _Table(parts, shared_items) for length, parts in sorted(tables.items())}
        known = [table.items for table in self._tables.values()]
        self._known = np.unique(np.concatenate([*known, np.empty(0, np.int64)])).tolist()
        self.unchecked = len(self.names) - len(self._known)
        """Items too short to be looked for, or made of nothing but what many share."""

    def __len__(self) -> int:
        return len(self.names)

    def looked_for(self, files: Mapping[str, Sequence[str]]) -> dict[str, LookedFor]:
        """Items by split, as their ids `SPLIT:LINE` begin.

        Args:
            files: Fingerprints of the files of each split.
        """
        items = Counter(name.rpartition(":")[0] for name in self.names)
        checked = Counter(self.names[number].rpartition(":")[0] for number in self._known)
        return {
            split: LookedFor(files=tuple(told), items=items[split], unchecked=items[split] - checked[split])
            for split, told in files.items()
        }

    def find(self, words: Words, texts: Sequence[str]) -> list[Overlap]:
        """Overlaps of a batch, in the order of documents and items.

        Args:
            words: What `hash_words` made of `texts`.
            texts: The documents themselves, for the words of an overlap.
        """
        places = self._places(words)
        overlaps = []
        for document in sorted(places):
            of_item = places[document]
            text = words_at(texts[document], {(at, at + n) for spans in of_item.values() for at, n in spans})
            found = [self._confirm(document, item, of_item[item], text) for item in sorted(of_item)]
            overlaps += [overlap for overlap in found if overlap is not None]
        return overlaps

    def _places(self, words: Words) -> Places:
        places: Places = defaultdict(lambda: defaultdict(list))
        first_D, ends_D = words.first_D, np.cumsum(words.counts_D)
        for length, table in self._tables.items():
            for place, value in table.find(words.hashes_W, length):
                document = int(np.searchsorted(ends_D, place, side="right"))
                if place + length <= ends_D[document]:
                    for item in table.items_with(value):
                        places[document][item].append((place - int(first_D[document]), length))
        return places

    def _confirm(
        self, document: int, item: int, spans: list[tuple[int, int]], words: Mapping[int, bytes]
    ) -> Overlap | None:
        """Compare the words, and join n-grams that touch into runs; `words` are those of the spans, by number."""

        def joined(start: int, stop: int) -> bytes:
            return b" ".join(words[number] for number in range(start, stop))

        text = b" %s " % b" ".join(self._words[item])
        true = [(at, at + n) for at, n in sorted(spans) if b" %s " % joined(at, at + n) in text]
        if not true:
            return None
        runs = [true[0]]
        for start, stop in true[1:]:
            runs[-1:] = [(runs[-1][0], stop)] if start <= runs[-1][1] else [runs[-1], (start, stop)]
        longest = max(runs, key=lambda run: run[1] - run[0])
        return Overlap(document, self.names[item], joined(*longest).decode("utf-8", "replace"), len(true))


class _Table:
    """n-grams of one length, sorted, with the items that hold them."""

    def __init__(self, parts: list[tuple[Hashes, Counts]], shared_items: int) -> None:
        pairs = np.empty(sum(len(hashes) for hashes, _ in parts), [("hash", np.uint64), ("item", np.int64)])
        pairs["hash"] = np.concatenate([hashes for hashes, _ in parts])
        pairs["item"] = np.concatenate([items for _, items in parts])
        pairs = np.unique(pairs)
        _, inverse, counts = np.unique(pairs["hash"], return_inverse=True, return_counts=True)
        pairs = pairs[counts[inverse] <= shared_items]
        self.hashes_N: Hashes = np.ascontiguousarray(pairs["hash"])
        self.items: Counts = np.ascontiguousarray(pairs["item"])
        self._filter = np.zeros(2**FILTER_BITS, bool)
        self._filter[self._short(self.hashes_N)] = True

    @staticmethod
    def _short(hashes: Hashes) -> npt.NDArray[np.intp]:
        return (hashes >> np.uint64(64 - FILTER_BITS)).astype(np.intp)

    def find(self, hashes_W: Hashes, length: int) -> Iterator[tuple[int, int]]:
        """Places, and hashes, of the n-grams that are in the table; `hashes_W` are those of single words."""
        for start in range(0, len(hashes_W), WORDS_AT_ONCE):
            values_W = ngrams(hashes_W[start : start + WORDS_AT_ONCE + length - 1], length)
            maybe = np.flatnonzero(self._filter[self._short(values_W)])
            rows = np.searchsorted(self.hashes_N, values_W[maybe])
            known = rows < len(self.hashes_N)
            known[known] = self.hashes_N[rows[known]] == values_W[maybe[known]]
            found = maybe[known]
            yield from zip((found + start).tolist(), values_W[found].tolist(), strict=True)

    def items_with(self, value: int) -> list[int]:
        """Numbers of the items that hold an n-gram."""
        first, last = (np.searchsorted(self.hashes_N, np.uint64(value), side) for side in ("left", "right"))
        return [int(item) for item in self.items[first:last]]


def _batches(items: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    batch: list[tuple[str, str]] = []
    for item in items:
        batch.append(item)
        if len(batch) == ITEMS_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _index_batch(
    batch: Sequence[tuple[str, str]], first_item: int, length: int, least: int
) -> dict[int, tuple[Hashes, Counts]]:
    """By length: hashes of n-grams, and the item each is from."""
    words = hash_words(text for _, text in batch)
    owner_W = np.repeat(np.arange(len(batch)), words.counts_D)
    tables: dict[int, tuple[Hashes, Counts]] = {}
    for size in range(least, length + 1):
        hashes_W = ngrams(words.hashes_W, size)
        starts = np.arange(len(hashes_W))
        inside = owner_W[starts] == owner_W[starts + size - 1]
        wanted = inside & ((words.counts_D >= length) if size == length else (words.counts_D == size))[owner_W[starts]]
        if wanted.any():
            tables[size] = hashes_W[wanted], owner_W[starts][wanted] + first_item
    return tables
