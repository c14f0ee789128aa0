"""The vectorised denoising beside a plain collator that works on Python lists: equal in distribution."""

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.data.plain_denoise import PlainCollator
from headrace.data.denoise import UL2, UL2R, Denoiser, Denoising, Outline
from headrace.data.draws import draw
from headrace.data.vocabulary import SpecialTokens

SPECIAL, EOS, COUNT = SpecialTokens(1000, 1143), 0, 6000
Measured = dict[str, npt.NDArray[np.float64]]


def measures(examples: list[tuple[list[int], list[int]]]) -> Measured:
    """What examples of texts that count up from 1 show of themselves, by the mode that opens them."""
    found: dict[str, list[float]] = {}
    for inputs, targets in examples:
        mode = str(inputs[0])
        spans = "".join("|" if token in SPECIAL.sentinels else "." for token in targets).split("|")[1:]
        found.setdefault("modes", []).append(inputs[0])
        found.setdefault(f"{mode} inputs", []).append(len(inputs))
        found.setdefault(f"{mode} targets", []).append(len(targets))
        found.setdefault(f"{mode} spans", []).extend(map(len, spans))
        found.setdefault(f"{mode} where", []).extend(token for token in targets if 0 < token < 1000)
    return {name: np.array(values, float) for name, values in found.items()}


def distance(first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> float:
    """Kolmogorov and Smirnov's: how far apart the shares of values up to any value are."""
    points = np.union1d(first, second)
    shares = (np.searchsorted(np.sort(each), points, side="right") / len(each) for each in (first, second))
    return float(np.abs(np.subtract(*shares)).max())


@pytest.mark.parametrize("denoisers", [UL2R, UL2])
@pytest.mark.parametrize("length", [40, 300])
def test_modes_spans_and_lengths_are_distributed_as_those_of_a_plain_collator(
    denoisers: tuple[Denoiser, ...], length: int
) -> None:
    text = list(range(1, length + 1))
    lengths = np.full(COUNT, length)
    outline = Outline(lengths, np.zeros(COUNT, bool), draw(11, np.arange(COUNT)))
    made = Denoising(denoisers, SPECIAL, EOS).examples(np.tile(text, COUNT), outline)
    pieces = np.split(made.tokens_S, np.cumsum(made.lengths_N)[:-1])
    ours = measures([(p[:n].tolist(), p[n:].tolist()) for p, n in zip(pieces, made.inputs_N, strict=True)])
    kinds = [(d.share, SPECIAL.mode(d.mode), d.mean_span_tokens, d.rate) for d in denoisers]
    plain = PlainCollator(kinds, SPECIAL.sentinels, EOS, 4096, seed=5)
    theirs = measures([plain.example(text) for _ in range(COUNT)])
    assert ours.keys() == theirs.keys()
    for name in ours:
        if not len(ours[name]):
            assert not len(theirs[name])
            continue
        sizes = len(ours[name]), len(theirs[name])
        # Values of one example hang together, so that as many are as good as independent as there are examples.
        independent = [min(size, COUNT // len(denoisers)) for size in sizes]
        critical = 1.95 * np.sqrt(sum(1 / n for n in independent))  # p = 0.001
        assert distance(ours[name], theirs[name]) < critical, name
