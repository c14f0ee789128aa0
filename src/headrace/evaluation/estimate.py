"""From scores of single examples to metrics with standard errors.

Every metric here is built on one ratio, the sum of the examples' scores over the sum of their weights:
an accuracy weighs each example by 1, a perplexity each document by its tokens. Scores are such that higher is
better, so that a perplexity's score is a log-likelihood.

Letters: N examples.
"""

import math

import numpy as np
import numpy.typing as npt

from headrace.artifacts import Metric
from headrace.errors import DataError, TrainingError

Array = npt.NDArray[np.float64]
NATS_PER_BIT = math.log(2)


def ratio(values_N: Array, weights_N: Array, where: str) -> tuple[float, float]:
    """Sum of values over sum of weights, with its standard error over examples.

    The error is the ratio estimator's, by the delta method; with equal weights it is the familiar
    sample deviation over √N.

    Raises:
        DataError: Fewer than two examples: nothing tells how far one may be off.
        TrainingError: A score is not finite: the model is broken.
    """
    n = len(values_N)
    if n < 2:
        raise DataError(f"{where} has {n} example(s), and a standard error needs two. Add examples.")
    if not np.isfinite(values_N).all():
        raise TrainingError(
            f"{where} has scores that are not finite: the weights are broken. Take an earlier checkpoint."
        )
    total = float(weights_N.sum())
    value = float(values_N.sum()) / total
    residual_N = values_N - value * weights_N
    variance = n / (n - 1) * float((residual_N**2).sum()) / total**2
    return value, math.sqrt(variance)


def mean(values_N: Array, weights_N: Array, where: str, *, higher_is_better: bool = True) -> Metric:
    """An average over examples, such as an accuracy."""
    value, stderr = ratio(values_N, weights_N, where)
    return Metric(value=value, stderr=stderr, n=len(values_N), higher_is_better=higher_is_better)


def perplexity(nats_N: Array, weights_N: Array, where: str) -> Metric:
    """exp of the negative log-likelihood per unit of weight; `nats_N` are log-likelihoods."""
    value, stderr = ratio(nats_N, weights_N, where)
    level = float(np.exp(-value))
    return Metric(value=level, stderr=level * stderr, n=len(nats_N), higher_is_better=False)


def bits(nats_N: Array, weights_N: Array, where: str) -> Metric:
    """Negative log-likelihood in bits per unit of weight, such as bits per byte."""
    value, stderr = ratio(nats_N, weights_N, where)
    return Metric(value=-value / NATS_PER_BIT, stderr=stderr / NATS_PER_BIT, n=len(nats_N), higher_is_better=False)
