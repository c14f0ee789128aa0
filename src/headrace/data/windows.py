"""One source as a sequence of windows: enough documents at a time to pack some rows of it.

A window is a pure function of where it begins. To resume, nothing but that place and the number of rows
already taken has to be known; the window is built again and comes out the same. It is laid out by lengths
alone: tokens are read when rows are taken, and only theirs.

Shape letters: N parts of documents, R rows of the window, B rows taken.
"""

from dataclasses import dataclass

import numpy as np

from headrace.data.batch import Batch
from headrace.data.draws import Integers, permutation
from headrace.data.objectives import Objective, Parts
from headrace.data.reading import Place, Reader
from headrace.data.shard_files import OpenShards


@dataclass(frozen=True, slots=True)
class Layout:
    """Where parts of documents lie: sorted by row, and in a row by position."""

    rows_N: Integers
    segments_N: Integers
    """Number of each in its row, from 1."""
    positions_N: Integers
    """How many positions each takes."""
    parts: Parts

    def take(self, order_N: Integers, rows_N: Integers) -> "Layout":
        """Some of them, in other rows."""
        return Layout(rows_N, self.segments_N[order_N], self.positions_N[order_N], self.parts.take(order_N))


class Window:
    """Rows that are laid out and can be read.

    Args:
        objective: Whose parts they are.
        layout: Where they lie.
        after: Where reading goes on.
        skipped: Pieces of a single token, from which nothing can be asked.
        cut: Examples that lost tokens because they are longer than a row.
    """

    def __init__(self, objective: Objective, layout: Layout, after: Place, skipped: int, cut: int) -> None:
        self.layout, self.after, self.skipped, self.cut = layout, after, skipped, cut
        self._objective = objective
        rows = int(layout.rows_N[-1]) + 1
        self._first = np.searchsorted(layout.rows_N, np.arange(rows + 1))
        self.filled_R: list[int] = np.bincount(layout.rows_N, layout.positions_N).astype(np.int64).tolist()
        """Positions of each row that are not padding."""

    def __len__(self) -> int:
        return len(self.filled_R)

    def chosen(self, rows_B: Integers) -> Layout:
        """The parts of some rows, which are numbered from 0."""
        counts_B = self._first[rows_B + 1] - self._first[rows_B]
        new_N = np.repeat(np.arange(len(rows_B)), counts_B)
        order_N = np.arange(len(new_N)) + np.repeat(self._first[rows_B] - (np.cumsum(counts_B) - counts_B), counts_B)
        return self.layout.take(order_N, new_N)

    def read(self, rows_B: Integers) -> Batch:
        """Some rows, by number."""
        layout = self.chosen(rows_B)
        return self._objective.lay(layout.parts, layout.rows_N, layout.segments_N, len(rows_B))


class Source:
    """Windows of one source.

    Args:
        documents: What it reads.
        objective: What is asked of them.
        words: Seed and name, as words for `draw`.
        rows: Rows a window is to fill.
    """

    def __init__(self, documents: OpenShards, objective: Objective, words: tuple[int, int], rows: int) -> None:
        self.documents, self.objective = documents, objective
        self._words, self._rows = words, rows
        self._reader = Reader(documents, words)

    def window(self, place: Place) -> Window:
        """Build the window that begins at `place`; its rows come in an order of their own.

        Packing sorts examples by length, and cutting leaves the parts of a document in a row: without
        the shuffle, neighbouring rows would resemble each other.
        """
        parts, positions_N = self._parts(place)
        usable = np.flatnonzero(positions_N)
        rows_N, segments_N = self.objective.pack(positions_N[usable], self._rows)
        taken, following = usable[: len(rows_N)], int(usable[len(rows_N)])
        kept = parts.take(taken)
        order_R = permutation(int(rows_N.max()) + 1, *self._words, place.epoch, place.document, place.offset)
        rows_N = np.argsort(order_R)[rows_N]
        order_N = np.lexsort((segments_N, rows_N))
        layout = Layout(rows_N, segments_N, positions_N[taken], kept).take(order_N, rows_N[order_N])
        skipped, cut = following - len(taken), int(np.count_nonzero(self.objective.shortened(kept)))
        return Window(self.objective, layout, parts.place(following), skipped, cut)

    def _parts(self, place: Place) -> tuple[Parts, Integers]:
        """Parts from `place` on that take more positions than a window has, and how many each takes."""
        budget = self._rows * self.objective.context_tokens
        wanted = budget + 2 * self.objective.context_tokens
        while True:
            parts = self.objective.cut(self._reader.read(place, wanted))
            positions_N = self.objective.positions(parts)
            if positions_N.sum() > budget:
                return parts, positions_N
            wanted *= 2
