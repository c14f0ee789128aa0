"""Words of texts as 64-bit hashes, many documents at a time: what duplicates and contamination are found by.

A word is what stands between white space, in lower case and without punctuation, as GPT-3's and the
Pile's decontamination define it (`don't` is `dont`). Characters of scripts written without spaces are
words of their own. A word's hash is a polynomial over its bytes modulo 2**64, taken from prefix sums, and
mixed; equal words have equal hashes in every process and on every machine.

Shape letters: C bytes of one block, D documents, W words of all of them.
"""

import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Hashes: TypeAlias = npt.NDArray[np.uint64]
Counts: TypeAlias = npt.NDArray[np.int64]

PIECE_CHARACTERS = 2**20
"""A longer text is taken apart at white space, so that memory does not follow its length."""
BLOCK_BYTES = 2**15
"""Bytes hashed at a time: few enough that their 64-bit values stay in a processor's cache."""
BLOCK_WORDS = 2**14
BLANKS = b" \t\n\r\x0b\x0c\x1c\x1d\x1e\x1f"
"""What Python takes for white space among ASCII characters."""
TO_SPACE = bytes.maketrans(BLANKS, b" " * len(BLANKS))
PUNCTUATION = string.punctuation.encode()
WITHOUT_SPACES = re.compile(
    "([\u0e00-\u0edf\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])"
)
"""Thai, Lao, Burmese, Khmer, kana and Han."""
CATEGORIES = {"Pc", "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "Cf"}
"""Punctuation, and formatting that is not seen."""
BYTE_FACTOR, WORD_FACTOR = 0x9E3779B97F4A7C15, 0xD1342543DE82EF95
"""Odd, so that they have inverses modulo 2**64."""


@dataclass(frozen=True, slots=True)
class Words:
    """The words of a batch of documents, one after another."""

    hashes_W: Hashes
    counts_D: Counts

    @property
    def first_D(self) -> Counts:
        """Where each document's words begin."""
        return np.cumsum(self.counts_D) - self.counts_D

    def where(self, chosen_D: npt.NDArray[np.bool_]) -> "Words":
        """Those of the documents marked."""
        if chosen_D.all():
            return self
        return Words(self.hashes_W[np.repeat(chosen_D, self.counts_D)], self.counts_D[chosen_D])


def normalise(text: str) -> bytes:
    """Words in lower case and without punctuation, as UTF-8, with one space or more between them."""
    if not text.isascii():
        text = WITHOUT_SPACES.sub(r" \1 ", _foreign_punctuation().sub("", text))
        text = " ".join(text.split())
    return text.lower().encode("utf-8", "replace").translate(TO_SPACE, PUNCTUATION)


def split_words(text: str) -> list[bytes]:
    """The words themselves, in the order in which `hash_words` hashes them."""
    return [word for piece in _pieces(text) for word in _words(piece)]


def words_at(text: str, spans: Iterable[tuple[int, int]]) -> dict[int, bytes]:
    """Words `start` to `stop` of a text, by number, of which only a piece at a time is taken apart."""
    spans = sorted(spans)
    found: dict[int, bytes] = {}
    before = 0
    for words in map(_words, _pieces(text)):
        for start, stop in spans:
            within = range(max(start, before), min(stop, before + len(words)))
            found |= {number: words[number - before] for number in within}
        before += len(words)
    return found


def _words(piece: str) -> list[bytes]:
    return [word for word in normalise(piece).split(b" ") if word]


@cache
def _foreign_punctuation() -> re.Pattern[str]:
    """Punctuation and invisible formatting beyond ASCII, of the basic plane, at which `re` is fast."""
    found = [chr(n) for n in range(0x80, 0x10000) if unicodedata.category(chr(n)) in CATEGORIES]
    return re.compile("[" + re.escape("".join(found)) + "]")


def hash_words(texts: Iterable[str]) -> Words:
    """Hash the words of each text."""
    hashes: list[Hashes] = [np.empty(0, np.uint64)]
    counts: list[Counts] = [np.empty(0, np.int64)]
    pieces: list[bytes] = []
    owners: list[int] = []
    documents = waiting = 0
    for number, text in enumerate(texts):
        documents += 1
        for piece in _pieces(text):
            pieces.append(normalise(piece))
            owners.append(number)
            waiting += len(pieces[-1])
            if waiting >= PIECE_CHARACTERS:
                _hash_pieces(pieces, hashes, counts)
                waiting = 0
    _hash_pieces(pieces, hashes, counts)
    counts_D = np.bincount(np.array(owners, np.int64), weights=np.concatenate(counts), minlength=documents)
    return Words(np.concatenate(hashes), counts_D.astype(np.int64))


def _pieces(text: str) -> Iterator[str]:
    """Cut a long text at blanks; within a word only where it is longer than a whole piece."""
    start = 0
    while len(text) - start > PIECE_CHARACTERS:
        end = start + PIECE_CHARACTERS
        blank = max(text.rfind(" ", start, end), text.rfind("\n", start, end))
        end = blank + 1 if blank >= start else end
        yield text[start:end]
        start = end
    yield text[start:]


def _hash_pieces(pieces: list[bytes], hashes: list[Hashes], counts: list[Counts]) -> None:
    """Move pieces into hashes of their words and numbers of words a piece."""
    data_C = np.frombuffer(b" ".join([b"", *pieces, b""]), np.uint8)
    edges = np.flatnonzero((data_C == ord(" "))[1:] != (data_C == ord(" "))[:-1]) + 1
    starts_W, ends_W = edges[::2], edges[1::2]
    row = 0
    while row < len(starts_W):
        origin = int(starts_W[row])
        stop = max(row + 1, int(np.searchsorted(ends_W, origin + BLOCK_BYTES, side="right")))
        block_C = data_C[origin : int(ends_W[stop - 1])]
        hashes.append(mix(_polynomials(block_C, starts_W[row:stop] - origin, ends_W[row:stop] - origin)))
        row = stop
    ends = np.cumsum([len(piece) + 1 for piece in pieces])
    counts.append(np.diff(np.searchsorted(starts_W, ends), prepend=0))
    pieces.clear()


def _polynomials(data_C: npt.NDArray[np.uint8], starts_W: Counts, ends_W: Counts) -> Hashes:
    """`sum(value of byte i * FACTOR**i)` of each word, counted from its own first byte."""
    size = max(len(data_C), BLOCK_BYTES)
    sums_C = np.empty(len(data_C) + 1, np.uint64)
    sums_C[0] = 0
    np.take(_byte_values(), data_C, out=sums_C[1:])
    sums_C[1:] *= _powers(BYTE_FACTOR, size)[: len(data_C)]
    np.cumsum(sums_C, out=sums_C)
    inverse = _powers(pow(BYTE_FACTOR, -1, 2**64), size)
    return np.asarray((sums_C[ends_W] - sums_C[starts_W]) * inverse[starts_W])


@cache
def _byte_values() -> Hashes:
    """A 64-bit value for each byte, none of them zero."""
    return mix(np.arange(1, 257, dtype=np.uint64))


_POWERS: dict[int, Hashes] = {}


def _powers(factor: int, size: int) -> Hashes:
    """Powers of `factor` modulo 2**64, kept and doubled as they are needed."""
    powers = _POWERS.get(factor, np.ones(1, np.uint64))
    while len(powers) < size:
        powers = np.concatenate([powers, powers * np.uint64(pow(factor, len(powers), 2**64))])
    _POWERS[factor] = powers
    return powers


def mix(values: Hashes) -> Hashes:
    """Spread values over all 64 bits.

    Source: the finalizer of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    """
    values = values.astype(np.uint64)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        values ^= values >> np.uint64(shift)
        values *= np.uint64(factor)
    values ^= values >> np.uint64(31)
    return values


def ngrams(hashes_W: Hashes, words: int) -> Hashes:
    """Hash of the `words` words that begin at each word; fewer results than words, and across documents too."""
    size = max(0, len(hashes_W) - words + 1)
    result = np.empty(size, np.uint64)
    for start in range(0, size, BLOCK_WORDS):
        stop = min(size, start + BLOCK_WORDS)
        result[start:stop] = _ngrams(hashes_W[start : stop + words - 1], words)
    return result


def _ngrams(hashes_W: Hashes, words: int) -> Hashes:
    """By doubling: 13 words are 8 and 4 and 1, so that a hash costs the logarithm of its length."""
    size = len(hashes_W) - words + 1
    total, done = np.zeros(size, np.uint64), 0
    doubled, length = hashes_W, 1
    while True:
        factor = np.uint64(pow(WORD_FACTOR, length, 2**64))
        if words & length:
            total = total * factor + doubled[done : done + size]
            done += length
        if 2 * length > words:
            return mix(total)
        doubled = doubled[:-length] * factor + doubled[length:]
        length *= 2
