"""Random numbers as a function of what they decide, so that no generator has a state to save.

`draw(seed, source, epoch, document)` gives the same 64 bits in any process, in any order and under any
release of numpy (whose generators do not promise theirs), for one decision or for a million at once.

Shape letters: N things drawn for, P parts.
"""

import hashlib
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Bits: TypeAlias = npt.NDArray[np.uint64]
Integers: TypeAlias = npt.NDArray[np.int64]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
OWNER_BITS = 24
"""In a sort key, how many leading bits say whose candidate it is; the rest order its candidates."""


def draw(*words: "int | Integers | Bits") -> Bits:
    """Hash whole numbers, or arrays of them elementwise, to 64 random bits each.

    Source: the finaliser of SplitMix64 (Steele, Lea and Flood, 2014), folded over the words.
    """
    shape = np.broadcast_shapes(*(np.shape(word) for word in words))
    state = np.zeros(shape or (1,), np.uint64)
    for word in words:
        number = np.uint64(word & 0xFFFFFFFFFFFFFFFF) if isinstance(word, int) else word.astype(np.uint64)
        state = (state ^ number) + GOLDEN
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state ^= state >> np.uint64(31)
    return state


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


def ranges(lengths_N: Integers) -> tuple[Integers, Integers]:
    """For ragged rows laid end to end: whose element each is, and its place in its row."""
    owners = np.repeat(np.arange(len(lengths_N)), lengths_N)
    starts_N = np.cumsum(lengths_N) - lengths_N
    return owners, np.arange(len(owners)) - starts_N[owners]


def compose(totals_N: Integers, parts_N: Integers, keys_N: Bits) -> Integers:
    """Break each total into that many positive parts, every way of doing so equally likely.

    Args:
        totals_N: What the parts sum to; at least `parts_N`.
        parts_N: At least 1.
        keys_N: Bits that decide where to break.

    Returns:
        parts_P: All parts end to end, of length `parts_N.sum()`.
    """
    owners, places = ranges(totals_N - 1)
    order = (owners.astype(np.uint64) << np.uint64(64 - OWNER_BITS)) | (
        draw(keys_N[owners], places) >> np.uint64(OWNER_BITS)
    )
    chosen = np.argsort(order, kind="stable")[places < (parts_N - 1)[owners]]
    broken = np.zeros(len(places), bool)
    broken[chosen] = True
    last_N = np.cumsum(parts_N) - 1
    inner = np.ones(int(parts_N.sum()), bool)
    inner[last_N] = False
    ends: Integers = np.empty(len(inner), np.int64)
    ends[inner], ends[last_N] = places[broken] + 1, totals_N
    starts: Integers = np.concatenate([[0], ends[:-1]])
    starts[last_N - parts_N + 1] = 0
    return ends - starts
