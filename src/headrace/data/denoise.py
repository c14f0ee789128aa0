"""UL2's denoising, from scratch (UL2) or as it continues a causal decoder (UL2R), and the plain prefix objective.

An S example reads the beginning of a piece of text and continues it. An R or X example reads the piece
with spans replaced by sentinels, then says what each stood for:

    [NLU] the cat <0> on the <1>      <0> sat <1> mat <|endoftext|>
    inputs: seen whole, not scored    targets: scored

What becomes of a piece follows from its length and its key alone, so that positions can be counted, and rows
shared out between replicas, before a single token is read.

Source: UL2 (arXiv:2205.05131) and UL2R (arXiv:2210.11399) for the mixtures; T5 (arXiv:1910.10683) for
how many spans there are.

Shape letters: N pieces, S tokens end to end, D denoisers, K runs (gaps and spans in turn).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from headrace.data.draws import Bits, Integers, below, compose, draw, ranges, uniform
from headrace.data.packing import Examples, Flags, interleave
from headrace.data.shard_files import Ids
from headrace.data.vocabulary import Mode, SpecialTokens

Reals: TypeAlias = npt.NDArray[np.float64]
SHORTEST_CORRUPTED_TOKENS = 8
"""Shorter pieces are not corrupted but continued: there is too little left around a span."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Denoiser:
    """One way of hiding text."""

    mode: Mode
    share: float
    """Part of the pieces it takes."""
    rate: float
    """Part of the tokens hidden."""
    mean_span_tokens: float = 0.0
    """Mean length of a span; 0 hides the end of the piece instead, `rate` of it on average."""

    def longest_piece(self, context_tokens: int, sentinels: int) -> int:
        """Tokens of the longest piece to corrupt: its example fits a row, and the sentinels suffice.

        Where the sentinels allow only part of a row, that part is brought down to a half, a third and so
        on, so that examples of long documents still fill rows.
        """
        if not self.mean_span_tokens:
            return context_tokens
        lengths = np.arange(1, context_tokens)
        _, spans = count_spans(lengths, self.rate, self.mean_span_tokens)
        positions = lengths + 2 * spans + 1
        most = int(positions[(positions <= context_tokens) & (spans <= sentinels)].max())
        share = context_tokens // -(-context_tokens // most)
        return int(lengths[(positions <= share) & (spans <= sentinels)].max())


UL2R = (
    Denoiser(mode="S", share=0.5, rate=0.5),
    Denoiser(mode="R", share=0.25, rate=0.15, mean_span_tokens=3),
    Denoiser(mode="X", share=0.125, rate=0.15, mean_span_tokens=32),
    Denoiser(mode="X", share=0.125, rate=0.5, mean_span_tokens=3),
)
"""Half sequential, a quarter regular, a quarter extreme: long spans or many, evenly."""

UL2 = (
    Denoiser(mode="S", share=1 / 7, rate=0.25),
    Denoiser(mode="R", share=1 / 7, rate=0.15, mean_span_tokens=3),
    Denoiser(mode="R", share=1 / 7, rate=0.15, mean_span_tokens=8),
    Denoiser(mode="X", share=1 / 7, rate=0.5, mean_span_tokens=3),
    Denoiser(mode="X", share=1 / 7, rate=0.5, mean_span_tokens=8),
    Denoiser(mode="X", share=1 / 7, rate=0.15, mean_span_tokens=64),
    Denoiser(mode="X", share=1 / 7, rate=0.5, mean_span_tokens=64),
)
"""The seven of the first UL2, which was trained from scratch, equally often."""

DENOISERS = {"ul2r": UL2R, "ul2": UL2}


def count_spans(
    lengths_N: Integers, rate: "float | Reals", mean_span_tokens: "float | Reals"
) -> tuple[Integers, Integers]:
    """Tokens to hide in pieces of these lengths and spans to hide them in; each at least one."""
    hidden_N = np.clip(np.rint(lengths_N * rate), 1, np.maximum(lengths_N - 1, 1)).astype(np.int64)
    spans_N = np.rint(hidden_N / mean_span_tokens).astype(np.int64)
    return hidden_N, np.clip(spans_N, 1, np.minimum(hidden_N, lengths_N - hidden_N + 1))


@dataclass(frozen=True, slots=True)
class Outline:
    """All that decides about pieces of text but the text."""

    lengths_N: Integers
    """At least two tokens each."""
    ended_N: Flags
    """Whether a piece's last token is the end-of-text of its document."""
    keys_N: Bits
    """The bits that decide what happens to each."""

    @property
    def texts_N(self) -> Integers:
        """Tokens of each but for the end-of-text."""
        return self.lengths_N - self.ended_N

    def where(self, kept_N: Flags) -> "Outline":
        """Those marked."""
        return Outline(self.lengths_N[kept_N], self.ended_N[kept_N], self.keys_N[kept_N])


class Denoising:
    """A mixture of denoisers.

    Args:
        denoisers: The first hides ends.
        special: Mode tokens and sentinels.
        eos_id: End-of-text.
    """

    def __init__(self, denoisers: Sequence[Denoiser], special: SpecialTokens, eos_id: int) -> None:
        self._special, self._eos_id = special, eos_id
        self._denoisers = denoisers
        self._edges_D = np.cumsum([denoiser.share for denoiser in denoisers])[:-1]
        self._rates_D = np.array([denoiser.rate for denoiser in denoisers])
        self._means_D = np.array([denoiser.mean_span_tokens for denoiser in denoisers])
        self._modes_D = np.array([special.mode(denoiser.mode) for denoiser in denoisers])

    def longest_pieces(self, context_tokens: int) -> Integers:
        """Of each denoiser the longest piece that it is given, in tokens."""
        sentinels = len(self._special.sentinels)
        return np.array([denoiser.longest_piece(context_tokens, sentinels) for denoiser in self._denoisers])

    def choose(self, keys_N: Bits) -> Integers:
        """Which denoiser each piece falls to, by its key."""
        return np.searchsorted(self._edges_D, uniform(draw(keys_N, 0)), side="right")

    def _chosen(self, outline: Outline) -> Integers:
        """The same for pieces whose lengths are known: the short ones are continued."""
        chosen_N = self.choose(outline.keys_N)
        chosen_N[outline.texts_N < SHORTEST_CORRUPTED_TOKENS] = 0
        return chosen_N

    def positions(self, outline: Outline) -> Integers:
        """Positions that the example of each piece will take."""
        chosen_N = self._chosen(outline)
        corrupted_N = chosen_N > 0
        positions_N = outline.lengths_N.copy()
        texts_N, chosen_N = outline.texts_N[corrupted_N], chosen_N[corrupted_N]
        _, spans_N = count_spans(texts_N, self._rates_D[chosen_N], self._means_D[chosen_N])
        positions_N[corrupted_N] = texts_N + 2 * spans_N + 1
        return positions_N

    def examples(self, tokens_S: Ids, outline: Outline) -> Examples:
        """Turn each piece into an example, in the order of the pieces.

        The end-of-text of a document is kept where its piece is continued, and taken off where it is
        corrupted, whose targets end with one of their own.
        """
        chosen_N = self._chosen(outline)
        continued_N = chosen_N == 0
        opening = int(self._modes_D[0])
        continued = continue_pieces(
            tokens_S[np.repeat(continued_N, outline.lengths_N)],
            outline.where(continued_N),
            rate=self._denoisers[0].rate,
            opening=opening,
        )
        if continued_N.all():
            return continued
        runs = np.column_stack([np.where(continued_N, 0, outline.texts_N), outline.lengths_N]).ravel()
        runs[1::2] -= runs[::2]
        corrupted = corrupt(
            tokens_S[np.repeat(np.tile([True, False], len(continued_N)), runs)],
            outline.where(~continued_N),
            self._rates_D[chosen_N[~continued_N]],
            self._means_D[chosen_N[~continued_N]],
            self._modes_D[chosen_N[~continued_N]],
            self._special.sentinels.start,
            self._eos_id,
        )
        return interleave(continued, corrupted, ~continued_N)


def continue_pieces(tokens_S: Ids, outline: Outline, *, rate: float = 0.5, opening: "int | None" = None) -> Examples:
    """Split each piece at a random point: its beginning is the input, its rest the target.

    Neither is ever empty. A target is from one token to twice `rate` of the piece, all equally likely.
    With `opening`, that token (a mode) comes before the input.
    """
    most_N = np.maximum(np.rint(2 * rate * outline.lengths_N).astype(np.int64) - 1, 1)
    inputs_N = outline.lengths_N - most_N + below(most_N, draw(outline.keys_N, 1))
    if opening is None:
        return Examples(tokens_S, outline.lengths_N, inputs_N)
    starts_N = np.cumsum(outline.lengths_N) - outline.lengths_N
    opened_S = np.insert(tokens_S.astype(np.int64), starts_N, opening)
    return Examples(opened_S, outline.lengths_N + 1, inputs_N + 1)


def corrupt(
    tokens_S: Ids, outline: Outline, rates_N: Reals, means_N: Reals, modes_N: Integers, sentinel: int, eos_id: int
) -> Examples:
    """Replace random spans of each piece by sentinels and ask for them.

    Spans are never empty and never touch; the first may begin and the last may end the piece.

    Args:
        tokens_S: The pieces end to end, without end-of-text.
        outline: Their lengths, which may count an end-of-text, and keys.
        rates_N: Part to hide of each.
        means_N: Mean length of its spans.
        modes_N: Token that opens its input.
        sentinel: The first sentinel.
        eos_id: End-of-text, which closes every target.
    """
    texts_N = outline.texts_N
    hidden_N, spans_N = count_spans(texts_N, rates_N, means_N)
    inputs_N = 1 + texts_N - hidden_N + spans_N
    lengths_N = inputs_N + hidden_N + spans_N + 1
    starts_N = np.cumsum(lengths_N) - lengths_N
    owners, places = ranges(2 * spans_N + 1)
    sizes_K, hidden_K, order_K = _runs(outline, hidden_N, spans_N), places % 2 == 1, places // 2
    input_K = starts_N[owners] + 1 + order_K + _before(np.where(hidden_K, 0, sizes_K), owners, places)
    target_K = (starts_N + inputs_N)[owners] + order_K + _before(np.where(hidden_K, sizes_K, 0), owners, places)

    made_S = np.empty(int(lengths_N.sum()), np.int64)
    made_S[starts_N] = modes_N
    made_S[starts_N + lengths_N - 1] = eos_id
    for cells in (input_K[hidden_K], target_K[hidden_K]):
        made_S[cells] = sentinel + order_K[hidden_K]
    first_K = np.where(hidden_K, target_K + 1, input_K)
    offset_K = first_K - (np.cumsum(sizes_K) - sizes_K)
    made_S[np.repeat(offset_K, sizes_K) + np.arange(len(tokens_S))] = tokens_S
    return Examples(made_S, lengths_N, inputs_N)


def _runs(outline: Outline, hidden_N: Integers, spans_N: Integers) -> Integers:
    """Lengths of gap, span, gap and so on through each piece; the outer gaps may be empty."""
    owners, places = ranges(2 * spans_N + 1)
    gaps = compose(outline.texts_N - hidden_N + 2, spans_N + 1, draw(outline.keys_N, 2))
    sizes_K: Integers = np.empty(len(places), np.int64)
    sizes_K[places % 2 == 0] = gaps
    sizes_K[places % 2 == 1] = compose(hidden_N, spans_N, draw(outline.keys_N, 3))
    sizes_K[(places == 0) | (places == 2 * spans_N[owners])] -= 1
    return sizes_K


def _before(sizes_K: Integers, owners: Integers, places: Integers) -> Integers:
    """Sum of the sizes before each run, within its own piece."""
    total_K: Integers = np.cumsum(sizes_K) - sizes_K
    before_K: Integers = total_K - total_K[places == 0][owners]
    return before_K
