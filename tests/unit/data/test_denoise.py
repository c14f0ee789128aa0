import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.data import denoise
from headrace.data.denoise import UL2, UL2R, Denoiser, Denoising, Outline, continue_pieces
from headrace.data.draws import draw
from headrace.data.packing import Examples
from headrace.data.vocabulary import SpecialTokens

SPECIAL = SpecialTokens(1000, 1143)
EOS = 0
S, R, LONG, MANY = UL2R
CORRUPTING = list({denoiser.rate * 1000 + denoiser.mean_span_tokens: denoiser for denoiser in (*UL2R, *UL2)}.values())
CORRUPTING = [denoiser for denoiser in CORRUPTING if denoiser.mean_span_tokens]
Pieces = tuple[npt.NDArray[np.int64], Outline]


def pieces_of(lengths: "npt.NDArray[np.int64] | list[int]", *, ended: bool = False, seed: int = 0) -> Pieces:
    """Random pieces of these lengths; with `ended`, the last token of each is end-of-text."""
    lengths = np.asarray(lengths)
    tokens = np.random.default_rng(seed).integers(1, 1000, lengths.sum()).astype(np.uint16)
    if ended:
        tokens[np.cumsum(lengths) - 1] = EOS
    return tokens, Outline(lengths, np.full(len(lengths), ended), draw(seed, np.arange(len(lengths))))


def corrupt(pieces: Pieces, denoiser: Denoiser, special: SpecialTokens = SPECIAL) -> Examples:
    """Every piece by one denoiser."""
    tokens, outline = pieces
    rates, means, modes = (
        np.full(len(outline.lengths_N), value)
        for value in (denoiser.rate, denoiser.mean_span_tokens, special.mode(denoiser.mode))
    )
    return denoise.corrupt(tokens, outline, rates, means, modes, special.sentinels.start, EOS)


def denoised(pieces: Pieces, denoisers: tuple[Denoiser, ...] = UL2R) -> Examples:
    return Denoising(denoisers, SPECIAL, EOS).examples(*pieces)


def split(pieces: Pieces) -> list[list[int]]:
    return [piece.tolist() for piece in np.split(pieces[0], np.cumsum(pieces[1].lengths_N)[:-1])]


def pairs(examples: Examples) -> list[tuple[list[int], list[int]]]:
    cut = np.split(examples.tokens_S, np.cumsum(examples.lengths_N)[:-1])
    return [(one[:n].tolist(), one[n:].tolist()) for one, n in zip(cut, examples.inputs_N, strict=True)]


def spans_of(targets: list[int]) -> list[list[int]]:
    """What each sentinel stands for, in order, from targets without their end-of-text."""
    spans: list[list[int]] = []
    for token in targets:
        if token in SPECIAL.sentinels:
            assert token == SPECIAL.sentinels[len(spans)], "sentinels count up from the first"
            spans.append([])
        else:
            spans[-1].append(token)
    return spans


def restore(inputs: list[int], targets: list[int]) -> list[int]:
    """The text that was corrupted."""
    assert targets[-1] == EOS
    spans = iter(spans_of(targets[:-1]))
    text = [part for token in inputs for part in (next(spans) if token in SPECIAL.sentinels else [token])]
    assert next(spans, None) is None, "no span without its sentinel"
    return text


@pytest.mark.parametrize("denoiser", CORRUPTING)
@pytest.mark.parametrize("seed", range(3))
def test_inputs_and_targets_give_the_text_back(denoiser: Denoiser, seed: int) -> None:
    longest = denoiser.longest_piece(512, len(SPECIAL.sentinels))
    pieces = pieces_of(np.random.default_rng(seed).integers(2, longest + 1, 200), seed=seed)
    for text, (inputs, targets) in zip(split(pieces), pairs(corrupt(pieces, denoiser)), strict=True):
        assert inputs[0] == SPECIAL.mode(denoiser.mode)
        assert restore(inputs[1:], targets) == text
        assert all(spans_of(targets[:-1])), "no span is empty"
        touching = itertools.pairwise(inputs)
        assert not any(a in SPECIAL.sentinels and b in SPECIAL.sentinels for a, b in touching)


@pytest.mark.parametrize("denoiser", CORRUPTING)
def test_rates_and_spans_are_those_of_the_denoiser(denoiser: Denoiser) -> None:
    length = 400 if denoiser.mean_span_tokens <= 32 else 1600
    pieces = pieces_of(np.full(400, length))
    spans = [spans_of(targets[:-1]) for _, targets in pairs(corrupt(pieces, denoiser))]
    hidden = [sum(map(len, each)) for each in spans]
    assert hidden == [round(length * denoiser.rate)] * 400
    lengths = np.array([len(span) for each in spans for span in each])
    assert lengths.mean() == pytest.approx(denoiser.mean_span_tokens, rel=0.07)
    assert lengths.std() > denoiser.mean_span_tokens / 2, "lengths vary"


def test_every_token_is_hidden_equally_often() -> None:
    pieces = pieces_of(np.full(6000, 20))
    numbered = (np.tile(np.arange(1, 21), 6000), pieces[1])
    hidden = np.zeros(21)
    for _, targets in pairs(corrupt(numbered, R)):
        for token in (token for token in targets[:-1] if token not in SPECIAL.sentinels):
            hidden[token] += 1
    assert hidden[1:].mean() == 6000 * 3 / 20
    inner = hidden[3:19]
    assert inner.max() / inner.min() < 1.3
    assert hidden[1] > 0 and hidden[20] > 0, "the ends, too"


def test_long_spans_hide_long_stretches() -> None:
    pieces = pieces_of(np.full(300, 1000))
    counts = [len(spans_of(targets[:-1])) for _, targets in pairs(corrupt(pieces, LONG))]
    assert set(counts) == {round(150 / 32)}


@pytest.mark.parametrize("denoiser", [S, *CORRUPTING])
@pytest.mark.parametrize(("context", "sentinels"), [(32, 8), (128, 140), (512, 20), (2048, 140)])
def test_the_longest_piece_fits_a_row_and_the_sentinels(denoiser: Denoiser, context: int, sentinels: int) -> None:
    special = SpecialTokens(1000, 1003 + sentinels)
    longest = denoiser.longest_piece(context, sentinels)
    if not denoiser.mean_span_tokens:
        assert longest == context
        return
    pieces = pieces_of([longest] * 5)
    examples = corrupt(pieces, denoiser, special)
    assert (examples.lengths_N - 1).max() <= context
    assert examples.tokens_S.max() < special.padded_vocabulary
    most = (examples.lengths_N - 1).max()
    assert most * (context // most) > 0.9 * context, "examples of long documents fill their rows"


def test_gptj_sentinels_let_regular_denoising_fill_its_context() -> None:
    assert R.longest_piece(2048, 140) > 1800
    assert MANY.longest_piece(2048, 140) > 700


@pytest.mark.parametrize("opening", [None, 1001])
def test_continued_pieces_are_split_and_neither_part_is_empty(opening: int | None) -> None:
    pieces = pieces_of(np.random.default_rng(0).integers(2, 9, 3000))
    for text, (inputs, targets) in zip(split(pieces), pairs(continue_pieces(*pieces, opening=opening)), strict=True):
        shown = inputs[1:] if opening else inputs
        assert opening is None or inputs[0] == opening
        assert [*shown, *targets] == text
        assert shown and targets


def test_pivots_are_uniform() -> None:
    inputs = continue_pieces(*pieces_of(np.full(9000, 10))).inputs_N
    counts = np.bincount(inputs, minlength=10)[1:]
    assert ((counts - 1000) ** 2 / 1000).sum() < 26  # 8 degrees of freedom, p > 0.001


def test_the_mixture_has_its_shares() -> None:
    chosen = Denoising(UL2R, SPECIAL, EOS).choose(draw(3, np.arange(40_000)))
    shares = np.bincount(chosen, minlength=4) / 40_000
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.125, 0.125], atol=0.01)
    assert sum(denoiser.share for denoiser in UL2R) == 1


def test_the_seven_denoisers_are_those_of_the_paper() -> None:
    assert {(each.mode, each.mean_span_tokens, each.rate) for each in UL2} == {
        ("S", 0, 0.25),
        *{("R", 3, 0.15), ("R", 8, 0.15)},
        *{("X", 3, 0.5), ("X", 8, 0.5), ("X", 64, 0.15), ("X", 64, 0.5)},
    }
    chosen = Denoising(UL2, SPECIAL, EOS).choose(draw(3, np.arange(70_000)))
    counts = np.bincount(chosen, minlength=7)
    assert ((counts - 10_000) ** 2 / 10_000).sum() < 22.5  # 6 degrees of freedom, p > 0.001


def test_the_sequential_denoiser_of_ul2_hides_a_quarter() -> None:
    examples = continue_pieces(*pieces_of(np.full(8000, 100)), rate=0.25)
    targets = examples.lengths_N - examples.inputs_N
    assert targets.min() == 1 and targets.max() == 49
    assert targets.mean() == pytest.approx(25, abs=0.5)


@pytest.mark.parametrize("denoisers", [UL2R, UL2])
@settings(max_examples=30, deadline=None)
@given(lengths=st.lists(st.integers(2, 120), min_size=1, max_size=60), ended=st.booleans(), seed=st.integers(0, 2**32))
def test_a_mixture_gives_every_text_back_and_hides_what_it_should(
    denoisers: tuple[Denoiser, ...], lengths: list[int], ended: bool, seed: int
) -> None:
    pieces = pieces_of(lengths, ended=ended, seed=seed)
    denoising = Denoising(denoisers, SPECIAL, EOS)
    chosen = denoising.choose(pieces[1].keys_N)
    made = denoising.examples(*pieces)
    assert denoising.positions(pieces[1]).tolist() == (made.lengths_N - 1).tolist(), "foreseen from lengths"
    for text, number, (inputs, targets) in zip(split(pieces), chosen, pairs(made), strict=True):
        assert inputs[1:] and targets, "nothing is empty"
        body = text[:-1] if ended else text
        if len(body) < 8 or number == 0:
            assert inputs[0] == SPECIAL.mode("S") and [*inputs[1:], *targets] == text
            continue
        denoiser = denoisers[number]
        assert inputs[0] == SPECIAL.mode(denoiser.mode) and restore(inputs[1:], targets) == body
        spans = spans_of(targets[:-1])
        hidden = sum(map(len, spans))
        assert all(spans) and hidden == round(len(body) * denoiser.rate)
        assert len(spans) == min(max(1, round(hidden / denoiser.mean_span_tokens)), len(body) - hidden + 1)
    again = denoising.examples(*pieces)
    assert again.tokens_S.tolist() == made.tokens_S.tolist(), "equal keys, equal examples"


@pytest.mark.parametrize("ended", [True, False])
def test_a_mixture_of_pieces_gives_every_text_back(ended: bool) -> None:
    pieces = pieces_of(np.random.default_rng(4).integers(2, 90, 900), ended=ended)
    restored, modes = [], []
    for inputs, targets in pairs(denoised(pieces)):
        modes.append(inputs[0])
        if inputs[0] == SPECIAL.mode("S"):
            assert (targets[-1] == EOS) == ended, "text that goes on does not end"
            text = [*inputs[1:], *targets]
        else:
            text = restore(inputs[1:], targets) + [EOS] * ended
            assert targets[:-1].count(EOS) == 0, "end-of-text is said once"
        restored.append(text)
    assert sorted(restored) == sorted(split(pieces))
    assert {mode: modes.count(mode) > 150 for mode in modes} == {SPECIAL.mode(mode): True for mode in ("R", "S", "X")}


def test_pieces_of_a_few_tokens_are_continued_not_corrupted() -> None:
    pieces = pieces_of(np.tile(np.arange(2, 8), 60))
    examples = denoised(pieces)
    assert {inputs[0] for inputs, _ in pairs(examples)} == {SPECIAL.mode("S")}


def test_equal_keys_give_equal_examples_whatever_stands_beside_them() -> None:
    pieces = pieces_of(np.random.default_rng(5).integers(2, 90, 300))
    whole = {tuple(inputs): targets for inputs, targets in pairs(denoised(pieces))}
    kept = np.random.default_rng(6).random(300) < 0.3
    part = pairs(denoised((pieces[0][np.repeat(kept, pieces[1].lengths_N)], pieces[1].where(kept))))
    assert len(part) == np.count_nonzero(kept)
    assert all(whole[tuple(inputs)] == targets for inputs, targets in part)
    other = (pieces[0], Outline(pieces[1].lengths_N, pieces[1].ended_N, draw(1, pieces[1].keys_N)))
    assert {tuple(inputs) for inputs, _ in pairs(denoised(other))} != set(whole)
