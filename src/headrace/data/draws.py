"""Random numbers as a function of what they decide, so that no generator has a state to save.

`draw(seed, source, epoch, document)` gives the same 64 bits in any process, in any order and under any
release of numpy (whose generators do not promise theirs), for one decision or for a million at once.

Shape letters: N things drawn for, P parts.
"""

import functools
import hashlib
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bits: TypeAlias = npt.NDArray[np.uint64]
Integers: TypeAlias = npt.NDArray[np.int64]
MASK = 2**64 - 1
GOLDEN, FIRST, SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
BLOCK = 2**14
"""Numbers of a `Shuffle` that are made at a time; so few in all are sorted instead."""
FEISTEL_ROUNDS = 6


def draw(*words: "int | Integers | Bits") -> Bits:
    """Hash whole numbers, or arrays of them elementwise, to 64 random bits each.

    Source: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014), folded over the words.
    """
    folded, arrays = 0, 0
    while arrays < len(words) and isinstance(word := words[arrays], int):
        folded, arrays = _mixed((folded ^ word) & MASK), arrays + 1
    state = np.array([folded], np.uint64)
    for word in words[arrays:]:
        number = np.uint64(word & MASK) if isinstance(word, int) else word.astype(np.uint64)
        state = (state ^ number) + np.uint64(GOLDEN)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(FIRST)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(SECOND)
        state ^= state >> np.uint64(31)
    return state


def _mixed(state: int) -> int:
    """One word of `draw`, by plain numbers: words that are alike for all need no arrays."""
    state = (state + GOLDEN) & MASK
    state = ((state ^ (state >> 30)) * FIRST) & MASK
    state = ((state ^ (state >> 27)) * SECOND) & MASK
    return state ^ (state >> 31)


def uniform(bits_N: Bits) -> npt.NDArray[np.float64]:
    """Turn bits into numbers in [0, 1)."""
    return (bits_N >> np.uint64(11)).astype(np.float64) * 2.0**-53


def below(limits_N: Integers, bits_N: Bits) -> Integers:
    """Turn bits into whole numbers from 0 up to, not including, each limit."""
    return (uniform(bits_N) * limits_N).astype(np.int64)


def name_word(name: str) -> int:
    """A name as a word for `draw`."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")


def permutation(count: int, *words: int) -> Integers:
    """The numbers 0 to `count` in an order decided by `words`."""
    return np.argsort(draw(*words, np.arange(count)), kind="stable")


class Shuffle:
    """The numbers 0 to `count` in an order decided by `words`, any part of which is had without the rest.

    A few numbers are sorted by random keys. Many are enciphered: a Feistel network permutes the numbers of
    as many bits, and one that comes out too large goes through it again.

    Source: Black and Rogaway, *Ciphers with arbitrary finite domains* (2002), for the going through again.
    """

    def __init__(self, count: int, *words: int) -> None:
        self._count = count
        self._keys: list[int] = draw(*words, np.arange(FEISTEL_ROUNDS)).tolist()
        self._half = np.uint64(-(-(count - 1).bit_length() // 2))
        self._low = np.uint64((1 << int(self._half)) - 1)
        make = functools.partial(permutation, count, *words) if count <= BLOCK else self._block
        self._kept = functools.lru_cache(maxsize=2)(make)

    def __len__(self) -> int:
        return self._count

    def part(self, start: int, stop: int) -> Integers:
        """Numbers `start` to `stop` of the order, or to its end."""
        stop = min(stop, self._count)
        if self._count <= BLOCK:
            return self._kept()[start:stop]
        first, last = start // BLOCK, (stop - 1) // BLOCK
        whole_N = np.concatenate([self._kept(block) for block in range(first, last + 1)])
        return whole_N[start - first * BLOCK : stop - first * BLOCK]

    def _block(self, number: int) -> Integers:
        """Numbers of the order in one block of places; many at a time cost least."""
        places_N = np.arange(number * BLOCK, min((number + 1) * BLOCK, self._count))
        found_N = self._permuted(places_N.astype(np.uint64))
        while len(outside := np.flatnonzero(found_N >= self._count)):
            found_N[outside] = self._permuted(found_N[outside])
        return found_N.astype(np.int64)

    def _permuted(self, numbers_N: Bits) -> Bits:
        left_N, right_N = numbers_N >> self._half, numbers_N & self._low
        for key in self._keys:
            left_N, right_N = right_N, left_N ^ (draw(key, right_N) & self._low)
        return (left_N << self._half) | right_N


def ranges(lengths_N: Integers) -> tuple[Integers, Integers]:
    """For ragged rows laid end to end: whose element each is, and its place in its row."""
    owners = np.repeat(np.arange(len(lengths_N)), lengths_N)
    starts_N = np.cumsum(lengths_N) - lengths_N
    return owners, np.arange(len(owners)) - starts_N[owners]


def choose(counts_N: Integers, limits_N: Integers, keys_N: Bits) -> npt.NDArray[np.bool_]:
    """Choose so many different numbers below each limit, every choice equally likely.

    Numbers are drawn until enough have come up; where most are wanted, those to leave out are drawn.

    Returns:
        chosen: For the numbers below each limit, laid end to end, whether they are chosen.
    """
    most_N = counts_N > limits_N // 2
    wanted_N = np.where(most_N, limits_N - counts_N, counts_N)
    firsts_N = np.cumsum(limits_N) - limits_N
    # How many draws that takes on average, and four standard deviations at the least.
    draws_N = limits_N * np.log1p(wanted_N / np.maximum(limits_N - wanted_N, 1)) + 4 * np.sqrt(wanted_N)
    draws_N = np.where(wanted_N > 0, np.ceil(draws_N) + 4, 0).astype(np.int64)
    chosen = np.repeat(most_N, limits_N)
    while True:
        owners, places = ranges(draws_N)
        cells = firsts_N[owners] + below(limits_N[owners], draw(keys_N[owners], places))
        new = _first_times(cells, len(chosen))
        found = np.concatenate([[0], np.cumsum(new)])
        ends_N = np.cumsum(draws_N)
        before_N = found[ends_N - draws_N]
        short_N = found[ends_N] - before_N < wanted_N
        if not short_N.any():
            kept = new & (found[1:] - before_N[owners] <= wanted_N[owners])
            chosen[cells[kept]] ^= True
            return chosen
        draws_N[short_N] *= 2


def _first_times(cells: Integers, count: int) -> npt.NDArray[np.bool_]:
    """Which entries are the first of their number, numbers being below `count`."""
    order = np.arange(len(cells))
    first = np.empty(count, np.int64)
    first[cells[::-1]] = order[::-1]  # of equal numbers the last one assigned stays
    return np.asarray(first[cells] == order)


def compose(totals_N: Integers, parts_N: Integers, keys_N: Bits) -> Integers:
    """Break each total into that many positive parts, every way of doing so equally likely.

    Args:
        totals_N: What the parts sum to; at least `parts_N`.
        parts_N: At least 1.
        keys_N: Bits that decide where to break.

    Returns:
        parts_P: All parts end to end, of length `parts_N.sum()`.
    """
    limits_N = totals_N - 1
    broken = np.flatnonzero(choose(parts_N - 1, limits_N, keys_N))
    last_N = np.cumsum(parts_N) - 1
    inner = np.ones(int(parts_N.sum()), bool)
    inner[last_N] = False
    ends: Integers = np.empty(len(inner), np.int64)
    ends[inner] = broken + 1 - np.repeat(np.cumsum(limits_N) - limits_N, parts_N - 1)
    ends[last_N] = totals_N
    starts: Integers = np.concatenate([[0], ends[:-1]])
    starts[last_N - parts_N + 1] = 0
    return ends - starts
