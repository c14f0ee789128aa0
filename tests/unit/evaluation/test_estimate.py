"""Metrics and their standard errors against textbook formulas and against resampling."""

import math
import random
import statistics

import numpy as np
import pytest

from headrace.errors import DataError, TrainingError
from headrace.evaluation.estimate import bits, mean, perplexity, ratio


def random_documents(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-likelihoods that depend on lengths, as those of documents do, and the lengths."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 200, n).astype(float)
    return -lengths * rng.gamma(9, 0.3, n), lengths


def test_a_mean_has_the_sample_deviation_over_root_n_as_its_error() -> None:
    draw = random.Random(1)
    scores = [float(draw.random() < 0.3) for _ in range(50)]
    metric = mean(np.array(scores), np.ones(50), "x")
    assert metric.value == pytest.approx(statistics.mean(scores))
    assert metric.stderr == pytest.approx(statistics.stdev(scores) / math.sqrt(50))
    assert (metric.n, metric.higher_is_better) == (50, True)


def test_a_perplexity_weighs_documents_by_their_tokens_and_errs_as_resampling_says() -> None:
    nats, lengths = random_documents(400)
    metric = perplexity(nats, lengths, "x")
    assert metric.value == pytest.approx(math.exp(-math.fsum(nats) / math.fsum(lengths)))
    assert not metric.higher_is_better
    rng = np.random.default_rng(2)
    drawn = rng.integers(0, 400, (4000, 400))
    resampled = np.exp(-nats[drawn].sum(1) / lengths[drawn].sum(1))
    assert metric.stderr == pytest.approx(resampled.std(), rel=0.05)


def test_bits_are_nats_over_the_logarithm_of_two() -> None:
    nats, lengths = random_documents(30)
    metric, (value, stderr) = bits(nats, lengths, "x"), ratio(nats, lengths, "x")
    assert (metric.value, metric.stderr) == pytest.approx((-value / math.log(2), stderr / math.log(2)))
    assert not metric.higher_is_better


def test_one_example_is_no_evidence() -> None:
    with pytest.raises(DataError, match=r"piqa/acc has 1 example\(s\)"):
        mean(np.ones(1), np.ones(1), "piqa/acc")


@pytest.mark.parametrize("value", [math.nan, -math.inf])
def test_a_model_that_is_broken_has_no_metric(value: float) -> None:
    with pytest.raises(TrainingError, match=r"prose/perplexity.*not finite"):
        perplexity(np.array([1.0, value]), np.ones(2), "prose/perplexity")
