"""Fill rows of one context length with documents or examples, kept apart by segment ids.

Text flows through rows like water: documents are laid end to end and cut at the context. Examples are
never cut: each goes whole into the row with the least room that still holds it.

Shape letters: N examples, S tokens end to end, R rows, T positions of a row (the context).
"""

import bisect
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.data.batch import UNSCORED, Batch
from headrace.data.draws import Integers, ranges


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


def concatenate_examples(first: Examples, second: Examples) -> Examples:
    """Examples of both."""
    return Examples(
        np.concatenate([first.tokens_S, second.tokens_S]),
        np.concatenate([first.lengths_N, second.lengths_N]),
        np.concatenate([first.inputs_N, second.inputs_N]),
    )


def pack_stream(stream_S: npt.NDArray[Any], lengths_N: Integers, before: int, context_tokens: int) -> Batch:
    """Cut a stream of documents into rows in which every position is scored.

    Position t reads the token before the one it is to predict. Before the first token of a document
    stands the end-of-text of the one before it, so that end-of-text also means "a text begins", as
    it did for GPT-J.

    Args:
        stream_S: Documents end to end, each closed by end-of-text; a whole number of rows.
        lengths_N: Tokens of each document in it; the first and last may be parts.
        before: Token before the first: end-of-text, or the document's own where it continues.
        context_tokens: Positions of a row.
    """
    shape = (len(stream_S) // context_tokens, context_tokens)
    labels_RT = stream_S.astype(np.int64).reshape(shape)
    tokens_RT = np.concatenate([[before], stream_S[:-1]]).astype(np.int64).reshape(shape)
    documents_RT = np.repeat(np.arange(len(lengths_N), dtype=np.int32), lengths_N).reshape(shape)
    segments_RT = documents_RT - documents_RT[:, :1] + np.int32(1)
    return Batch(tokens_RT, labels_RT, segments_RT, np.zeros(shape, bool))


def pack_examples(examples: Examples, context_tokens: int) -> Batch:
    """Place examples in rows; inputs are the prefix and only targets are scored.

    The position of the last input predicts the first target. An example must not take more positions
    than a row has.
    """
    rows_N, starts_N, segments_N = best_fit(examples.positions_N, context_tokens)
    owners, places = ranges(examples.positions_N)
    source = (np.cumsum(examples.lengths_N) - examples.lengths_N)[owners] + places
    cell = (rows_N * context_tokens + starts_N)[owners] + places
    shape = (int(rows_N.max(initial=-1)) + 1, context_tokens)
    tokens, labels = np.zeros(shape, np.int64), np.full(shape, UNSCORED, np.int64)
    segments, prefix = np.zeros(shape, np.int32), np.zeros(shape, bool)
    tokens.flat[cell] = examples.tokens_S[source]
    segments.flat[cell] = segments_N[owners]
    prefix.flat[cell] = places < examples.inputs_N[owners]
    scored = places >= examples.inputs_N[owners] - 1
    labels.flat[cell[scored]] = examples.tokens_S[source[scored] + 1]
    return Batch(tokens, labels, segments, prefix)


def best_fit(positions_N: Integers, capacity: int) -> tuple[Integers, Integers, Integers]:
    """Best-fit decreasing: the longest first, each into the fullest row that holds it.

    Returns:
        rows_N: Row of each.
        starts_N: Its first position there.
        segments_N: Its number in the row, from 1.
    """
    rows_N, starts_N, segments_N = (np.empty(len(positions_N), np.int64) for _ in range(3))
    free: list[tuple[int, int, int]] = []  # (room left, row, examples in it), sorted
    rows = 0
    order = np.argsort(-positions_N, kind="stable")
    for example, needed in zip(order.tolist(), positions_N[order].tolist(), strict=True):
        place = bisect.bisect_left(free, (needed, 0, 0))
        if place < len(free):
            room, row, count = free.pop(place)
        else:
            room, row, count, rows = capacity, rows, 0, rows + 1
        rows_N[example], starts_N[example], segments_N[example] = row, capacity - room, count + 1
        bisect.insort(free, (room - needed, row, count + 1))
    return rows_N, starts_N, segments_N
