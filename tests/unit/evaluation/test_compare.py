"""The paired bootstrap against plain Python, against exact enumeration, and where the answer is known."""

import itertools
import math
import random
import statistics
from collections.abc import Callable

import numpy as np
import pytest

from headrace.artifacts import EvalReport
from headrace.errors import DataError, IntegrityError, MismatchError
from headrace.evaluation.compare import Scores, bootstrap, compare
from headrace.storage import Stored

Reports = Callable[..., Stored[EvalReport]]


def scores(values: list[float], weights: list[float] | None = None) -> Scores:
    return Scores(np.array(values, float), np.array(weights or [1.0] * len(values)))


def correlated(n: int, gain: float, seed: int = 0) -> tuple[list[float], list[float]]:
    """Two models that find the same examples hard; the first is right more often."""
    draw = random.Random(seed)
    hardness = [draw.random() for _ in range(n)]
    first = [float(draw.random() * 0.3 + h < 0.6 + gain) for h in hardness]
    return first, [float(draw.random() * 0.3 + h < 0.6) for h in hardness]


def test_three_examples_are_resampled_in_their_27_ways() -> None:
    ours, theirs = [1.0, 0.0, 1.0], [0.0, 0.5, 0.25]
    differences = [
        statistics.mean(ours[i] - theirs[i] for i in drawn) for drawn in itertools.product(range(3), repeat=3)
    ]
    found = bootstrap(scores(ours), scores(theirs), resamples=200_000)
    assert found.p_value == pytest.approx(sum(d <= 0 for d in differences) / 27, abs=0.003)
    assert found.difference == pytest.approx(statistics.mean(ours) - statistics.mean(theirs))


@pytest.mark.parametrize("gain", [0.0, 0.03, 0.1])
def test_many_examples_agree_with_the_normal_distribution(gain: float) -> None:
    ours, theirs = correlated(1500, gain)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    mean, error = statistics.mean(differences), statistics.stdev(differences) / math.sqrt(1500)
    found = bootstrap(scores(ours), scores(theirs), resamples=20_000)
    assert found.p_value == pytest.approx(0.5 * math.erfc(mean / error / math.sqrt(2)), abs=0.02)
    assert (found.low, found.high) == pytest.approx((mean - 1.96 * error, mean + 1.96 * error), abs=0.1 * error)


def test_weighted_scores_are_resampled_as_plain_python_does() -> None:
    draw = random.Random(3)
    lengths = [float(draw.randint(3, 90)) for _ in range(60)]
    ours, theirs = ([-n * draw.uniform(2, 4) for n in lengths] for _ in range(2))
    found = bootstrap(scores(ours, lengths), scores(theirs, lengths), resamples=20_000)
    resampled = []
    for _ in range(20_000):
        drawn = draw.choices(range(60), k=60)
        resampled.append(sum(ours[i] - theirs[i] for i in drawn) / sum(lengths[i] for i in drawn))
    resampled.sort()
    assert found.p_value == pytest.approx(sum(d <= 0 for d in resampled) / 20_000, abs=0.015)
    assert (found.low, found.high) == pytest.approx((resampled[500], resampled[19_500]), abs=0.01)


def test_sides_weighed_differently_are_averaged_apart() -> None:
    """Two tokenizers cut the same texts into different numbers of tokens."""
    draw = random.Random(5)
    ours_by, theirs_by = ([float(draw.randint(3, 90)) for _ in range(40)] for _ in range(2))
    ours, theirs = ([-n * draw.uniform(2, 4) for n in lengths] for lengths in (ours_by, theirs_by))
    found = bootstrap(scores(ours, ours_by), scores(theirs, theirs_by), resamples=20_000)
    resampled = []
    for _ in range(20_000):
        drawn = draw.choices(range(40), k=40)
        means = [sum(v[i] for i in drawn) / sum(w[i] for i in drawn) for v, w in ((ours, ours_by), (theirs, theirs_by))]
        resampled.append(means[0] - means[1])
    resampled.sort()
    assert found.difference == pytest.approx(sum(ours) / sum(ours_by) - sum(theirs) / sum(theirs_by))
    assert found.p_value == pytest.approx(sum(d <= 0 for d in resampled) / 20_000, abs=0.015)
    assert (found.low, found.high) == pytest.approx((resampled[500], resampled[19_500]), abs=0.01)


def test_pairing_finds_what_two_separate_samples_would_hide() -> None:
    """Every twentieth example is won; unpaired errors of ± 0.035 would drown that."""
    theirs = [float(n % 2) for n in range(200)]
    ours = [1.0 if n % 20 == 0 else score for n, score in enumerate(theirs)]
    assert bootstrap(scores(ours), scores(theirs)).p_value < 0.01


@pytest.mark.parametrize("values", [[0.0, 1.0, 1.0] * 20, [0.0] * 40, [0.3] * 2])
def test_equal_scores_are_never_a_win(values: list[float]) -> None:
    found = bootstrap(scores(values), scores(values))
    assert (found.difference, found.low, found.high, found.p_value) == (0, 0, 0, 1)


def test_a_loser_has_the_winners_p_value_the_other_way_round() -> None:
    ours, theirs = correlated(300, 0.1)
    won, lost = bootstrap(scores(ours), scores(theirs)), bootstrap(scores(theirs), scores(ours))
    assert won.p_value < 0.01 and lost.p_value > 0.99
    assert won.difference == -lost.difference > 0


def test_a_p_value_is_never_zero_and_follows_from_the_seed() -> None:
    found = [bootstrap(scores([1.0] * 50), scores([0.0] * 50), resamples=999, seed=seed) for seed in (0, 0, 1)]
    assert [comparison.p_value for comparison in found] == [1 / 1000] * 3
    ours, theirs = map(scores, correlated(80, 0.05))
    assert bootstrap(ours, theirs, seed=4) == bootstrap(ours, theirs, seed=4) != bootstrap(ours, theirs, seed=5)


def test_a_wider_confidence_is_a_wider_interval() -> None:
    ours, theirs = map(scores, correlated(200, 0.05))
    narrow, wide = (bootstrap(ours, theirs, confidence=level) for level in (0.8, 0.99))
    assert wide.low < narrow.low < narrow.high < wide.high


def test_resamples_are_drawn_alike_in_slices_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = map(scores, correlated(100, 0.05))
    whole = bootstrap(ours, theirs, resamples=2001)
    monkeypatch.setattr("headrace.evaluation.compare.DRAWN_AT_ONCE", 700)
    assert bootstrap(ours, theirs, resamples=2001).p_value == pytest.approx(whole.p_value, abs=0.02)


def test_reports_are_compared_example_by_example(report: Reports) -> None:
    ours, theirs = correlated(120, 0.1)
    found = compare(report("a", facts=ours), report("b", facts=theirs), "facts/exact_match", resamples=500, seed=2)
    assert found == bootstrap(scores(ours), scores(theirs), resamples=500, seed=2)
    assert found.n == 120


def test_a_reference_may_be_measured_under_another_name(report: Reports) -> None:
    ours, theirs = correlated(50, 0.1)
    candidate, base = report("a", facts=ours, shots=ours), report("b", facts=[0.0] * 50, shots=theirs)
    found = compare(candidate, base, "facts/exact_match", reference_metric="shots/exact_match")
    assert found == bootstrap(scores(ours), scores(theirs))


@pytest.mark.parametrize("datas", [("x", "y"), ("", "")])
def test_reports_of_other_data_are_refused(report: Reports, datas: tuple[str, str]) -> None:
    one, two = (report(name, data=data, facts=[1, 0]) for name, data in zip("ab", datas, strict=True))
    with pytest.raises(MismatchError, match="different data"):
        compare(one, two, "facts/exact_match")


def test_other_examples_and_metrics_that_are_not_there_are_refused(report: Reports) -> None:
    candidate, base = report("a", facts=[1, 0, 1]), report("b", facts=[1, 0, 1], few=[1, 0])
    with pytest.raises(MismatchError, match=r"same examples \(3 and 2\)"):
        compare(candidate, base, "facts/exact_match", reference_metric="few/exact_match")
    with pytest.raises(DataError, match="Did you mean 'facts/exact_match'"):
        compare(candidate, base, "fact/exact_match")


def test_scores_that_have_gone_missing_are_refused(report: Reports) -> None:
    candidate, base = report("a", facts=[1, 0]), report("b", facts=[1, 0])
    (base.path / "scores" / "facts.parquet").unlink()
    with pytest.raises(IntegrityError, match=r"facts\.parquet cannot be read"):
        compare(candidate, base, "facts/exact_match")
