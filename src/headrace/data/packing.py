"""Fill rows of one context length with documents or examples, kept apart by segment ids.

Text flows through rows like water: documents are laid end to end and cut at the context. Examples are
never cut: a row is filled with long ones, then closed with those that leave the least room.

Shape letters: N examples, S tokens end to end, R rows, T positions of a row (the context).
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.data.batch import UNSCORED, Batch
from headrace.data.draws import Integers

Flags: TypeAlias = npt.NDArray[np.bool_]
WORTH_SEARCHING = 64
"""Room that is accepted unfilled at the end of a row rather than searched for a pair that leaves less."""


@dataclass(frozen=True, slots=True)
class Examples:
    """What is read and what is to be answered, end to end."""

    tokens_S: npt.NDArray[Any]
    """Inputs and targets of all examples; no example has fewer than two tokens."""
    lengths_N: Integers
    """Tokens of each example, inputs and targets."""
    inputs_N: Integers
    """How many of them are inputs: at least one, and fewer than all."""

    @property
    def positions_N(self) -> Integers:
        """Positions each example takes: nothing is predicted from its last token, which is left out."""
        return self.lengths_N - 1


def interleave(first: Examples, second: Examples, second_N: Flags) -> Examples:
    """Examples of both in one order: where `second_N` is set stands the next of `second`."""
    lengths_N, inputs_N = np.empty((2, len(second_N)), np.int64)
    for values_N, each in ((lengths_N, "lengths_N"), (inputs_N, "inputs_N")):
        values_N[~second_N], values_N[second_N] = getattr(first, each), getattr(second, each)
    second_S = np.repeat(second_N, lengths_N)
    tokens_S = np.empty(len(second_S), np.int64)
    tokens_S[~second_S], tokens_S[second_S] = first.tokens_S, second.tokens_S
    return Examples(tokens_S, lengths_N, inputs_N)


def lay_stream(stream_S: npt.NDArray[Any], starts_N: Integers, befores_N: Integers, segments_N: Integers) -> Batch:
    """Rows of text in which every position is scored.

    Position t reads the token before the one it is to predict. Before the first token of a document
    stands end-of-text, so that end-of-text also means "a text begins", as it did for GPT-J.

    Args:
        stream_S: Parts of documents end to end, row after row.
        starts_N: Where in it each begins.
        befores_N: Token before each: end-of-text, or the document's own where it continues.
        segments_N: Number of each in its row, from 1.
    """
    labels_S = stream_S.astype(np.int64)
    tokens_S = np.empty_like(labels_S)
    tokens_S[1:] = labels_S[:-1]
    tokens_S[starts_N] = befores_N
    lengths_N = np.diff(starts_N, append=len(labels_S))
    segments_S = np.repeat(segments_N.astype(np.int32), lengths_N)
    return Batch(tokens_S, labels_S, segments_S, np.zeros(len(labels_S), bool))


def lay_examples(examples: Examples, segments_N: Integers, rows_N: Integers, shape: tuple[int, int]) -> Batch:
    """Rows of examples, in which inputs are the prefix and only targets are scored.

    The position of the last input predicts the first target.

    Args:
        examples: Row after row, and in a row from its first position on.
        segments_N: Number of each in its row, from 1.
        rows_N: Row of each.
        shape: Rows and positions of a row.
    """
    rows, context_tokens = shape
    positions_N, tokens_S = examples.positions_N, examples.tokens_S
    room_N = np.zeros(len(rows_N), np.int64)
    lasts = np.searchsorted(rows_N, np.arange(rows), side="right") - 1
    room_N[lasts] = context_tokens - np.bincount(rows_N, positions_N, rows).astype(np.int64)
    prefix_T, scored_T, filled_T = _marks(examples, room_N)
    ends_N = np.cumsum(examples.lengths_N)
    tokens_T, labels_T = np.zeros(len(filled_T), np.int64), np.full(len(filled_T), UNSCORED)
    tokens_T[filled_T] = np.delete(tokens_S, ends_N - 1)
    labels_T[scored_T] = np.delete(tokens_S, ends_N - examples.lengths_N)[scored_T[filled_T]]
    numbers_N2 = np.column_stack([segments_N, np.zeros_like(segments_N)]).astype(np.int32)
    segments_T = np.repeat(numbers_N2.ravel(), np.column_stack([positions_N, room_N]).ravel())
    return Batch(tokens_T, labels_T, segments_T, prefix_T).reshape(rows, context_tokens)


def _marks(examples: Examples, room_N: Integers) -> tuple[Flags, Flags, Flags]:
    """Which positions are prefix, are scored and are filled, where `room_N` follow each example unfilled."""
    inputs_N, positions_N = examples.inputs_N, examples.positions_N
    # The last input is read and scored, too; beyond the last example nothing is either.
    runs_N4 = np.column_stack([inputs_N - 1, np.ones_like(inputs_N), positions_N - inputs_N, room_N])
    prefix_T, scored_T, filled_T = (
        np.repeat(np.tile(np.array(marks, bool), len(room_N)), runs_N4.ravel())
        for marks in ((1, 1, 0, 0), (0, 1, 1, 0), (1, 1, 1, 0))
    )
    return prefix_T, scored_T, filled_T


def pack_stream(positions_N: Integers, context_tokens: int, rows: int) -> tuple[Integers, Integers]:
    """Lay parts end to end, none of which reaches over the end of a row.

    Returns:
        Row of each, and its number in the row from 1, of as many as the rows hold.
    """
    ends_N = np.cumsum(positions_N)
    taken = int(np.searchsorted(ends_N, rows * context_tokens, side="right"))
    rows_N = (ends_N[:taken] - positions_N[:taken]) // context_tokens
    return rows_N, 1 + np.arange(taken) - np.searchsorted(rows_N, rows_N)


def pack_examples(positions_N: Integers, context_tokens: int, rows: int) -> tuple[Integers, Integers]:
    """Place examples in rows by best fit, as many of the first as the rows hold.

    What would only begin another row is left to the next window, where it finds company.

    Returns:
        Row of each, and its number in the row from 1.
    """
    ends_N = np.cumsum(positions_N)
    taken = int(np.searchsorted(ends_N, rows * context_tokens, side="right"))
    while True:
        rows_N, segments_N = best_fit(positions_N[:taken], context_tokens)
        if rows_N.max() < rows:
            return rows_N, segments_N
        # Rows are filled from the first on, so that what the last ones hold is what there was too much of.
        over = int(positions_N[:taken][rows_N >= rows].sum())
        taken = min(taken - 1, int(np.searchsorted(ends_N, ends_N[taken - 1] - over, side="right")))


def best_fit(positions_N: Integers, capacity: int) -> tuple[Integers, Integers]:
    """Fill row after row: the longest that is left and fits, again and again, then what fits best.

    Once two such would fill what room is left, the one or two examples that leave least of it are taken. Placing
    each example by itself where it fits best leaves gaps shorter than the shortest example, over 1 % of the
    positions where none is short.

    Returns:
        Row of each, and its number in the row from 1.
    """
    rows_N, segments_N = np.empty((2, len(positions_N)), np.int64)
    waiting: list[list[int]] = [[] for _ in range(capacity + 1)]
    for example, length in zip(range(len(positions_N) - 1, -1, -1), positions_N[::-1].tolist(), strict=True):
        waiting[length].append(example)
    lengths = _Lengths([len(examples) for examples in waiting])
    row = 0
    while lengths.any():
        room, segment = capacity, 0
        while chosen := lengths.choose(room):
            for length in chosen:
                lengths.take(length)
                example, segment = waiting[length].pop(), segment + 1
                rows_N[example], segments_N[example] = row, segment
                room -= length
        row += 1
    return rows_N, segments_N


class _Lengths:
    """How many examples there are of each length.

    Which lengths there are is a number whose bit L stands for length L, and one with the bits in the opposite order:
    shifted against each other, they show at once all pairs of one sum.
    """

    def __init__(self, counts: list[int]) -> None:
        self._counts, self._last = counts, len(counts) - 1
        self._bits = sum(1 << length for length, count in enumerate(counts) if count)
        self._mirrored = sum(1 << (self._last - length) for length, count in enumerate(counts) if count)

    def any(self) -> bool:
        """Whether an example is left."""
        return self._bits > 0

    def take(self, length: int) -> None:
        """One fewer of a length."""
        self._counts[length] -= 1
        if not self._counts[length]:
            self._bits ^= 1 << length
            self._mirrored ^= 1 << (self._last - length)

    def choose(self, room: int) -> list[int]:
        """Lengths to put into so much room; none where nothing fits."""
        fitting = self._bits & ((2 << room) - 1)
        longest = fitting.bit_length() - 1
        if longest < 0:
            return []
        if room <= 2 * longest:
            for filled in range(room, max(room - WORTH_SEARCHING, longest), -1):
                if pair := self._pair(filled):
                    return pair
        return [longest]

    def _pair(self, total: int) -> list[int]:
        """The shortest and the longest length that sum to a total, if two examples do."""
        both = self._bits & (self._mirrored >> (self._last - total))
        if not total % 2 and self._counts[total // 2] == 1:
            both &= ~(1 << total // 2)
        if not both:
            return []
        shortest = (both & -both).bit_length() - 1
        return [total - shortest, shortest]
