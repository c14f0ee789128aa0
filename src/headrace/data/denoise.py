"""UL2's denoising, as it continues a causal decoder (UL2R), and the plain prefix objective.

An S example reads the beginning of a piece of text and continues it. An R or X example reads the piece
with spans replaced by sentinels, then says what each stood for:

    [NLU] the cat <0> on the <1>      <0> sat <1> mat <|endoftext|>
    inputs: seen whole, not scored    targets: scored

Source: UL2 (arXiv:2205.05131); UL2R (arXiv:2210.11399) for the mixture; T5 (arXiv:1910.10683) for
how many spans there are.

Shape letters: N pieces, S tokens end to end, D denoisers, K runs (gaps and spans in turn).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from headrace.data.draws import Bits, Integers, below, compose, draw, ranges, uniform
from headrace.data.packing import Examples, concatenate_examples
from headrace.data.vocabulary import Mode, SpecialTokens

SHORTEST_CORRUPTED_TOKENS = 8
"""Shorter pieces are not corrupted but continued: there is too little left around a span."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Denoiser:
    """One way of hiding text."""

    mode: Mode
    share: float
    """Part of the pieces it takes."""
    mean_span_tokens: float = 0.0
    """Mean length of a span; 0 hides the end of the piece instead."""
    rate: float = 0.0
    """Part of the tokens hidden."""

    def spans(self, lengths_N: Integers) -> tuple[Integers, Integers]:
        """Tokens to hide and spans to hide them in, for pieces of these lengths; each at least one."""
        hidden_N = np.clip(np.rint(lengths_N * self.rate), 1, np.maximum(lengths_N - 1, 1)).astype(np.int64)
        spans_N = np.rint(hidden_N / self.mean_span_tokens).astype(np.int64)
        return hidden_N, np.clip(spans_N, 1, np.minimum(hidden_N, lengths_N - hidden_N + 1))

    def longest_piece(self, context_tokens: int, sentinels: int) -> int:
        """Tokens of the longest piece to corrupt: its example fits a row, and the sentinels suffice.

        Where the sentinels allow only part of a row, that part is brought down to a half, a third and so
        on, so that examples of long documents still fill rows.
        """
        if not self.mean_span_tokens:
            return context_tokens
        lengths = np.arange(1, context_tokens)
        _, spans = self.spans(lengths)
        positions = lengths + 2 * spans + 1
        most = int(positions[(positions <= context_tokens) & (spans <= sentinels)].max())
        share = context_tokens // -(-context_tokens // most)
        return int(lengths[(positions <= share) & (spans <= sentinels)].max())


UL2R = (
    Denoiser(mode="S", share=0.5),
    Denoiser(mode="R", share=0.25, mean_span_tokens=3, rate=0.15),
    Denoiser(mode="X", share=0.125, mean_span_tokens=32, rate=0.15),
    Denoiser(mode="X", share=0.125, mean_span_tokens=3, rate=0.5),
)
"""Half sequential, a quarter regular, a quarter extreme: long spans or many, evenly."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """Parts of documents, end to end, each with the bits that decide what happens to it."""

    tokens_S: npt.NDArray[Any]
    lengths_N: Integers
    """At least two tokens each."""
    keys_N: Bits

    def where(self, kept_N: npt.NDArray[np.bool_]) -> "Pieces":
        """The pieces marked."""
        tokens_S = self.tokens_S[np.repeat(kept_N, self.lengths_N)]
        return Pieces(tokens_S, self.lengths_N[kept_N], self.keys_N[kept_N])


def choose_denoisers(keys_N: Bits) -> Integers:
    """Which of `UL2R` each piece falls to, by its key."""
    edges_D = np.cumsum([denoiser.share for denoiser in UL2R])[:-1]
    return np.searchsorted(edges_D, uniform(draw(keys_N, 0)), side="right")


def continue_pieces(pieces: Pieces, opening: int | None = None) -> Examples:
    """Split each piece at a random point: its beginning is the input, its rest the target.

    Neither is ever empty. With `opening`, that token (a mode) comes before the input.
    """
    inputs_N = 1 + below(pieces.lengths_N - 1, draw(pieces.keys_N, 1))
    if opening is None:
        return Examples(pieces.tokens_S, pieces.lengths_N, inputs_N)
    starts_N = np.cumsum(pieces.lengths_N) - pieces.lengths_N
    tokens_S = np.insert(pieces.tokens_S.astype(np.int64), starts_N, opening)
    return Examples(tokens_S, pieces.lengths_N + 1, inputs_N + 1)


def denoise_pieces(pieces: Pieces, special: SpecialTokens, eos_id: int) -> Examples:
    """Turn each piece into an example of the UL2R mixture.

    A piece that ends its document carries the end-of-text; it is kept where the piece is continued, and taken
    off where it is corrupted, whose targets end with one of their own.
    """
    ends_N = np.cumsum(pieces.lengths_N) - 1
    text_N = pieces.lengths_N - (pieces.tokens_S[ends_N] == eos_id)
    chosen_N = choose_denoisers(pieces.keys_N)
    chosen_N[text_N < SHORTEST_CORRUPTED_TOKENS] = 0
    examples = continue_pieces(pieces.where(chosen_N == 0), special.mode("S"))
    for number, denoiser in enumerate(UL2R[1:], start=1):
        if (mine_N := chosen_N == number).any():
            text = Pieces(_without_ends(pieces, text_N), text_N, pieces.keys_N).where(mine_N)
            examples = concatenate_examples(examples, corrupt(text, denoiser, special, eos_id))
    return examples


def _without_ends(pieces: Pieces, kept_N: Integers) -> npt.NDArray[Any]:
    """Tokens of the pieces, each shortened to `kept_N`."""
    owners, places = ranges(pieces.lengths_N)
    return pieces.tokens_S[places < kept_N[owners]]


def corrupt(pieces: Pieces, denoiser: Denoiser, special: SpecialTokens, eos_id: int) -> Examples:
    """Replace random spans of each piece by sentinels and ask for them.

    Spans are never empty and never touch; the first may begin and the last may end the piece.
    """
    hidden_N, spans_N = denoiser.spans(pieces.lengths_N)
    inputs_N = 1 + pieces.lengths_N - hidden_N + spans_N
    lengths_N = inputs_N + hidden_N + spans_N + 1
    starts_N = np.cumsum(lengths_N) - lengths_N
    owners, places = ranges(2 * spans_N + 1)
    sizes_K, hidden_K, order_K = _runs(pieces, hidden_N, spans_N), places % 2 == 1, places // 2
    input_K = starts_N[owners] + 1 + order_K + _before(np.where(hidden_K, 0, sizes_K), owners, places)
    target_K = (starts_N + inputs_N)[owners] + order_K + _before(np.where(hidden_K, sizes_K, 0), owners, places)

    tokens_S = np.empty(int(lengths_N.sum()), np.int64)
    tokens_S[starts_N] = special.mode(denoiser.mode)
    tokens_S[starts_N + lengths_N - 1] = eos_id
    for cells in (input_K[hidden_K], target_K[hidden_K]):
        tokens_S[cells] = special.sentinels.start + order_K[hidden_K]
    first_K = np.where(hidden_K, target_K + 1, input_K)
    runs, within = ranges(sizes_K)
    tokens_S[first_K[runs] + within] = pieces.tokens_S
    return Examples(tokens_S, lengths_N, inputs_N)


def _runs(pieces: Pieces, hidden_N: Integers, spans_N: Integers) -> Integers:
    """Lengths of gap, span, gap and so on through each piece; the outer gaps may be empty."""
    owners, places = ranges(2 * spans_N + 1)
    gaps = compose(pieces.lengths_N - hidden_N + 2, spans_N + 1, draw(pieces.keys_N, 2))
    sizes_K: Integers = np.empty(len(places), np.int64)
    sizes_K[places % 2 == 0] = gaps
    sizes_K[places % 2 == 1] = compose(hidden_N, spans_N, draw(pieces.keys_N, 3))
    sizes_K[(places == 0) | (places == 2 * spans_N[owners])] -= 1
    return sizes_K


def _before(sizes_K: Integers, owners: Integers, places: Integers) -> Integers:
    """Sum of the sizes before each run, within its own piece."""
    total_K: Integers = np.cumsum(sizes_K) - sizes_K
    before_K: Integers = total_K - total_K[places == 0][owners]
    return before_K
