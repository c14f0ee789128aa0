"""One source as a sequence of windows: enough documents at a time to pack some rows of it.

A window is a pure function of where it begins. To resume, nothing but that place and the number of rows
already taken has to be known; the window is built again and comes out the same.

Shape letters: N documents or pieces, S tokens end to end, R rows.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from headrace.data.batch import Batch
from headrace.data.denoise import UL2R, Pieces, choose_denoisers, continue_pieces, denoise_pieces
from headrace.data.draws import Bits, Integers, draw, permutation
from headrace.data.packing import Examples, pack_examples, pack_stream
from headrace.data.shard_files import Ids, OpenShards
from headrace.data.vocabulary import SpecialTokens

Objective = Literal["causal", "ul2", "prefix", "instruction"]
SHORTEST_PIECE_TOKENS = 8
"""Documents are not cut so close to their beginning or end that less than this would stand alone."""
WHOLE = 2**62
"""As the shortest part of a document: it is not cut at all."""


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
    documents_N: Integers
    starts_N: Integers
    stops_N: Integers

    @property
    def lengths_N(self) -> Integers:
        """Tokens of each."""
        return self.stops_N - self.starts_N


@dataclass(frozen=True, slots=True)
class Window:
    """Packed rows and where reading goes on after them."""

    rows: Batch
    after: Place
    skipped: int
    """Pieces of a single token, from which nothing can be asked."""


class Source:
    """Windows of one source.

    Args:
        shards: Its documents.
        objective: What is asked of them.
        words: Seed and name, as words for `draw`.
        special: Mode tokens and sentinels.
        context_tokens: Positions of a row.
        rows: Rows a window is to fill, roughly.
    """

    def __init__(
        self,
        shards: OpenShards,
        objective: Objective,
        words: tuple[int, int],
        special: SpecialTokens,
        *,
        context_tokens: int,
        rows: int,
    ) -> None:
        self.shards, self.objective, self.special = shards, objective, special
        self._words, self._context, self._budget = words, context_tokens, rows * context_tokens
        self._order = functools.lru_cache(maxsize=2)(lambda epoch: permutation(len(shards), *words, epoch))
        build: dict[Objective, Callable[[Place], Window]] = {
            "causal": self._causal,
            "ul2": self._ul2,
            "prefix": self._prefix,
            "instruction": self._instruction,
        }
        self._build = build[objective]

    def window(self, place: Place) -> Window:
        """Build the window that begins at `place`; its rows come in an order of their own.

        Packing sorts examples by length, and cutting leaves the parts of a document in a row: without
        the shuffle, neighbouring rows would resemble each other.
        """
        window, skipped = self._build(place), 0
        while not len(window.rows.tokens_BT):
            skipped += window.skipped
            window = self._build(window.after)
        order_R = permutation(len(window.rows.tokens_BT), *self._words, place.epoch, place.document, place.offset)
        return Window(window.rows.take(order_R), window.after, skipped + window.skipped)

    def _causal(self, place: Place) -> Window:
        chunks, after = self._read(place, shortest=1)
        before = self.shards.document(int(chunks.documents_N[0]))[place.offset - 1] if place.offset else None
        eos = self.shards.eos_id if before is None else int(before)
        return Window(pack_stream(self._tokens(chunks), chunks.lengths_N, eos, self._context), after, 0)

    def _ul2(self, place: Place) -> Window:
        sentinels = len(self.special.sentinels)
        longest = np.array([denoiser.longest_piece(self._context, sentinels) for denoiser in UL2R])
        pieces, after, skipped = self._pieces(place, lambda keys_N: longest[choose_denoisers(keys_N)])
        return self._packed(denoise_pieces(pieces, self.special, self.shards.eos_id), after, skipped)

    def _prefix(self, place: Place) -> Window:
        pieces, after, skipped = self._pieces(place, lambda keys_N: np.full(len(keys_N), self._context + 1))
        return self._packed(continue_pieces(pieces), after, skipped)

    def _instruction(self, place: Place) -> Window:
        """Take whole examples; of one that is too long the prompt loses its beginning, then the answer its end."""
        chunks, after = self._read(place, shortest=WHOLE)
        prompts_N = self.shards.prompts(chunks.documents_N)
        targets_N = np.minimum(chunks.stops_N - prompts_N, self._context)
        inputs_N = np.minimum(prompts_N, self._context + 1 - targets_N)
        kept = Chunks(chunks.epochs_N, chunks.documents_N, prompts_N - inputs_N, prompts_N + targets_N)
        return self._packed(Examples(self._tokens(kept), kept.lengths_N, inputs_N), after, 0)

    def _packed(self, examples: Examples, after: Place, skipped: int) -> Window:
        return Window(pack_examples(examples, self._context), after, skipped)

    def _pieces(self, place: Place, longest: Callable[[Bits], Integers]) -> tuple[Pieces, Place, int]:
        """Cut documents into pieces no longer than their keys allow, and count those too short to use."""
        chunks, after = self._read(place, shortest=SHORTEST_PIECE_TOKENS)
        owners, starts_N, stops_N, keys_N = _cut(chunks, self._words, longest)
        cut = Chunks(chunks.epochs_N[owners], chunks.documents_N[owners], starts_N, stops_N)
        pieces = Pieces(self._tokens(cut), cut.lengths_N, keys_N)
        usable_N = cut.lengths_N > 1
        return pieces.where(usable_N), after, int(np.count_nonzero(~usable_N))

    def _tokens(self, chunks: Chunks) -> Ids:
        bounds = zip(chunks.documents_N.tolist(), chunks.starts_N.tolist(), chunks.stops_N.tolist(), strict=True)
        return np.concatenate([self.shards.document(number)[start:stop] for number, start, stop in bounds])

    def _read(self, place: Place, *, shortest: int) -> tuple[Chunks, Place]:
        """Take documents in order until the window is full, going on into the next epochs.

        The last is cut where the window ends, unless that makes a part of fewer than `shortest` tokens.
        """
        parts: list[Chunks] = []
        budget = self._budget
        while budget > 0:
            chunks, place = self._read_epoch(place, budget, shortest)
            parts.append(chunks)
            budget -= int(chunks.lengths_N.sum())
        columns = zip(*((c.epochs_N, c.documents_N, c.starts_N, c.stops_N) for c in parts), strict=True)
        return Chunks(*(np.concatenate(column) for column in columns)), place

    def _read_epoch(self, place: Place, budget: int, shortest: int) -> tuple[Chunks, Place]:
        """Take from one epoch alone."""
        order = self._order(place.epoch)
        likely = 16 + budget * len(order) // max(self.shards.tokens, 1)
        documents_N = order[place.document : place.document + likely]
        starts_N = np.zeros(len(documents_N), np.int64)
        starts_N[0] = place.offset
        stops_N = self.shards.lengths(documents_N)
        totals_N = np.cumsum(stops_N - starts_N)
        taken = min(int(np.searchsorted(totals_N, budget)) + 1, len(documents_N))
        part = int(stops_N[taken - 1] - starts_N[taken - 1])
        over = min(int(totals_N[taken - 1]) - budget, part - shortest)
        over = over if over >= shortest else 0
        offset = int(stops_N[taken - 1]) - over if over else 0
        stops_N[taken - 1] -= over
        chunks = Chunks(np.full(taken, place.epoch), documents_N[:taken], starts_N[:taken], stops_N[:taken])
        behind = place.document + taken - bool(over)
        done = behind == len(order)
        return chunks, Place(place.epoch + 1) if done else Place(place.epoch, behind, offset)


def _cut(
    chunks: Chunks, words: tuple[int, int], longest: Callable[[Bits], Integers]
) -> tuple[Integers, Integers, Integers, Bits]:
    """Cut each chunk from its start, all chunks a piece at a time.

    Returns:
        Of each piece the chunk it is of, its start, its stop and its key.
    """
    cuts = []
    live, at = np.arange(len(chunks.starts_N)), chunks.starts_N
    while len(live):
        keys = draw(*words, chunks.epochs_N[live], chunks.documents_N[live], at)
        limits, left = longest(keys), chunks.stops_N[live] - at
        short = (left > limits) & (left < limits + SHORTEST_PIECE_TOKENS)
        stops = at + np.where(short, left - SHORTEST_PIECE_TOKENS, np.minimum(left, limits))
        cuts.append((live, at, stops, keys))
        more = stops < chunks.stops_N[live]
        live, at = live[more], stops[more]
    owners, starts_N, stops_N, keys_N = (np.concatenate(column) for column in zip(*cuts, strict=True))
    return owners, starts_N, stops_N, keys_N
