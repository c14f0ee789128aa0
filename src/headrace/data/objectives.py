"""What is asked of documents: how they are cut, how many positions that takes, and how it is laid in rows.

Shape letters: N parts of documents, S tokens end to end.
"""

from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from headrace.data.batch import Batch
from headrace.data.denoise import DENOISERS, Denoising, Outline, continue_pieces
from headrace.data.draws import Bits, Integers, draw
from headrace.data.packing import Examples, lay_examples, lay_stream, pack_examples, pack_stream
from headrace.data.reading import Chunks, Place
from headrace.data.shard_files import Ids, OpenShards
from headrace.data.vocabulary import SpecialTokens

ObjectiveName = Literal["causal", "ul2", "prefix", "instruction"]
Denoisers = Literal["ul2r", "ul2"]
Cut = Literal["prompt", "end"]
SHORTEST_PIECE_TOKENS = 8
"""Documents are not cut so close to their beginning or end that less than this would stand alone."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Parts of documents, in reading order until they are packed."""

    epochs_N: Integers
    turns_N: Integers
    offsets_N: Integers
    """Epoch, turn and offset at which reading would come upon each."""
    documents_N: Integers
    starts_N: Integers
    stops_N: Integers
    ends_N: Integers
    """Tokens of the whole document."""
    keys_N: Bits
    """The bits that decide what happens to each."""

    @property
    def lengths_N(self) -> Integers:
        """Tokens of each."""
        return self.stops_N - self.starts_N

    def take(self, order_N: Integers) -> "Parts":
        """Some of them, by number."""
        return Parts(*(getattr(self, column.name)[order_N] for column in fields(self)))

    def place(self, number: int) -> Place:
        """Where reading comes upon one."""
        return Place(int(self.epochs_N[number]), int(self.turns_N[number]), int(self.offsets_N[number]))


class Objective:
    """One way of asking.

    Args:
        documents: Where tokens are read.
        context_tokens: Positions of a row.
        words: Seed and name of the source, as words for `draw`.
    """

    def __init__(self, documents: OpenShards, context_tokens: int, words: tuple[int, int]) -> None:
        self.documents, self.context_tokens, self._words = documents, context_tokens, words

    def cut(self, chunks: Chunks) -> Parts:
        """Cut documents into what is asked at a time; of a document that is not read to its end, what is sure."""
        raise NotImplementedError

    def positions(self, parts: Parts) -> Integers:
        """Positions that each takes; 0 where nothing can be asked."""
        raise NotImplementedError

    def pack(self, positions_N: Integers, rows: int) -> tuple[Integers, Integers]:
        """Row and number in the row of each, for as many of the first as fit into the rows."""
        return pack_examples(positions_N, self.context_tokens, rows)

    def shortened(self, parts: Parts) -> npt.NDArray[np.bool_]:
        """Which have lost tokens that nothing else holds."""
        return np.zeros(len(parts.documents_N), bool)

    def lay(self, parts: Parts, rows_N: Integers, segments_N: Integers, rows: int) -> Batch:
        """Read parts, which stand in the order of rows and positions, into rows."""
        return lay_examples(self._examples(parts), segments_N, rows_N, (rows, self.context_tokens))

    def _examples(self, parts: Parts) -> Examples:
        raise NotImplementedError

    def _tokens(self, parts: Parts) -> Ids:
        return self.documents.spans(parts.documents_N, parts.starts_N, parts.stops_N)

    def _words_of(self, chunks: Chunks) -> Bits:
        """What decides about each document in its epoch."""
        return draw(*self._words, chunks.epochs_N, chunks.documents_N)

    def _parts(self, chunks: Chunks, owners: Integers, starts_N: Integers, stops_N: Integers) -> Parts:
        """Parts of chunks, given which chunk each is of."""
        mine = chunks.take(owners)
        keys_N = _keys(self._words_of(chunks)[owners], starts_N)
        return Parts(mine.epochs_N, mine.turns_N, starts_N, mine.documents_N, starts_N, stops_N, mine.ends_N, keys_N)


class Causal(Objective):
    """Every token is predicted from those before it; text flows through rows like water."""

    def cut(self, chunks: Chunks) -> Parts:
        """Cut at the ends of rows."""
        ends_N = np.cumsum(chunks.lengths_N)
        begins_N = ends_N - chunks.lengths_N
        edges = np.union1d(begins_N, np.arange(0, ends_N[-1], self.context_tokens))
        owners = np.searchsorted(begins_N, edges, side="right") - 1
        starts_N = chunks.starts_N[owners] + edges - begins_N[owners]
        return self._parts(chunks, owners, starts_N, starts_N + np.diff(edges, append=ends_N[-1]))

    def positions(self, parts: Parts) -> Integers:
        """As many as tokens."""
        return parts.lengths_N

    def pack(self, positions_N: Integers, rows: int) -> tuple[Integers, Integers]:
        """End to end."""
        return pack_stream(positions_N, self.context_tokens, rows)

    def lay(self, parts: Parts, rows_N: Integers, segments_N: Integers, rows: int) -> Batch:
        """Rows without padding."""
        stream_S, lengths_N = self._tokens(parts), parts.lengths_N
        befores_N = np.full(len(lengths_N), self.documents.eos_id, np.int64)
        if (inner := np.flatnonzero(parts.starts_N)).size:
            starts = parts.starts_N[inner]
            befores_N[inner] = self.documents.spans(parts.documents_N[inner], starts - 1, starts)
        laid = lay_stream(stream_S, np.cumsum(lengths_N) - lengths_N, befores_N, segments_N)
        return laid.reshape(rows, self.context_tokens)


class Continue(Objective):
    """The rest of a piece of text is told from its beginning, which is seen whole: plain prefix-LM."""

    def cut(self, chunks: Chunks) -> Parts:
        """Cut each document from its start, all documents a piece at a time."""
        cuts = []
        words_N = self._words_of(chunks)
        live, at = np.arange(len(chunks.starts_N)), chunks.starts_N
        while len(live):
            keys = _keys(words_N[live], at)
            limits, left = self._longest(keys), chunks.ends_N[live] - at
            short = (left > limits) & (left < limits + SHORTEST_PIECE_TOKENS)
            stops = at + np.where(short, left - SHORTEST_PIECE_TOKENS, np.minimum(left, limits))
            cuts.append((live, at, stops))
            more = stops < chunks.stops_N[live]
            live, at = live[more], stops[more]
        owners, starts_N, stops_N = (np.concatenate(column) for column in zip(*cuts, strict=True))
        order_N = np.lexsort((starts_N, owners))
        return self._parts(chunks, owners[order_N], starts_N[order_N], stops_N[order_N])

    def _longest(self, keys_N: Bits) -> Integers:
        """Tokens of the longest piece with each key."""
        return np.full(len(keys_N), self.context_tokens + 1)

    def positions(self, parts: Parts) -> Integers:
        """One fewer than tokens: nothing is predicted from the last."""
        return parts.lengths_N - 1

    def _examples(self, parts: Parts) -> Examples:
        return continue_pieces(self._tokens(parts), _outline(parts))


class Denoise(Continue):
    """Text is put together again from what a denoiser has left of it."""

    def __init__(
        self,
        documents: OpenShards,
        context_tokens: int,
        words: tuple[int, int],
        special: SpecialTokens,
        denoisers: Denoisers = "ul2r",
    ) -> None:
        super().__init__(documents, context_tokens, words)
        self._denoising = Denoising(DENOISERS[denoisers], special, documents.eos_id)
        self._longest_D = self._denoising.longest_pieces(context_tokens)

    def _longest(self, keys_N: Bits) -> Integers:
        return self._longest_D[self._denoising.choose(keys_N)]

    def positions(self, parts: Parts) -> Integers:
        """Those of inputs and targets, sentinels among them."""
        positions_N, usable_N = np.zeros(len(parts.keys_N), np.int64), parts.lengths_N > 1
        positions_N[usable_N] = self._denoising.positions(_outline(parts).where(usable_N))
        return positions_N

    def _examples(self, parts: Parts) -> Examples:
        return self._denoising.examples(self._tokens(parts), _outline(parts))


class Answer(Objective):
    """Prompts are answered. Of an example that is too long the prompt loses its beginning, then the answer its end."""

    def cut(self, chunks: Chunks) -> Parts:
        """Take documents whole, or as much of them as a row holds."""
        prompts_N = self.documents.prompts(chunks.documents_N)
        targets_N = np.minimum(chunks.ends_N - prompts_N, self.context_tokens)
        inputs_N = np.minimum(prompts_N, self.context_tokens + 1 - targets_N)
        columns = (chunks.epochs_N, chunks.turns_N, chunks.starts_N, chunks.documents_N)
        starts_N, stops_N = prompts_N - inputs_N, prompts_N + targets_N
        return Parts(*columns, starts_N, stops_N, chunks.ends_N, np.zeros(len(prompts_N), np.uint64))

    def positions(self, parts: Parts) -> Integers:
        """One fewer than tokens: nothing is predicted from the last."""
        return parts.lengths_N - 1

    def shortened(self, parts: Parts) -> npt.NDArray[np.bool_]:
        """Examples longer than a row."""
        return np.asarray(parts.lengths_N < parts.ends_N)

    def _examples(self, parts: Parts) -> Examples:
        inputs_N = self.documents.prompts(parts.documents_N) - parts.starts_N
        return Examples(self._tokens(parts), parts.lengths_N, inputs_N)


class CutAnswer(Answer):
    """Prompts are answered, and what is too long loses its end, as GPT-JT's own training had it.

    A prompt that fills a row has no answer left, and is skipped.
    """

    def cut(self, chunks: Chunks) -> Parts:
        """Take as much of each document as a row holds, from its start."""
        columns = (chunks.epochs_N, chunks.turns_N, chunks.starts_N, chunks.documents_N)
        starts_N, stops_N = np.zeros_like(chunks.ends_N), np.minimum(chunks.ends_N, self.context_tokens + 1)
        return Parts(*columns, starts_N, stops_N, chunks.ends_N, np.zeros(len(starts_N), np.uint64))

    def positions(self, parts: Parts) -> Integers:
        """One fewer than tokens; 0 where nothing of the answer is left."""
        answered_N = parts.stops_N > self.documents.prompts(parts.documents_N)
        return np.where(answered_N, parts.lengths_N - 1, 0)


def _keys(words_N: Bits, starts_N: Integers) -> Bits:
    """The key of what begins at each place of documents."""
    return draw(words_N ^ starts_N.astype(np.uint64))


def _outline(parts: Parts) -> Outline:
    return Outline(parts.lengths_N, parts.stops_N == parts.ends_N, parts.keys_N)


def objective_of(
    name: ObjectiveName,
    documents: OpenShards,
    context_tokens: int,
    words: tuple[int, int],
    special: SpecialTokens,
    denoisers: Denoisers = "ul2r",
    cut: Cut = "prompt",
) -> Objective:
    """The objective of that name over some documents."""
    if name == "ul2":
        return Denoise(documents, context_tokens, words, special, denoisers)
    answer = CutAnswer if cut == "end" else Answer
    kinds: dict[str, type[Objective]] = {"causal": Causal, "prefix": Continue, "instruction": answer}
    return kinds[name](documents, context_tokens, words)
