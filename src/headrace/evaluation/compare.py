"""Paired bootstrap: whether one report is better than another on the very same examples.

Examples are drawn with replacement, each carrying its scores under both models, so that what makes an
example hard for either counts for neither. The p-value is one-sided: the share of draws in which the
candidate does not come out ahead.

Source: Efron and Tibshirani 1993, An Introduction to the Bootstrap; Koehn 2004, Statistical Significance
Tests for Machine Translation Evaluation (paired, over test sentences).

Letters: N examples, K kinds of them, R resamples of a slice, C columns that are summed.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.artifacts import EvalReport
from headrace.config import nearest
from headrace.errors import DataError, MismatchError
from headrace.evaluation.scores import Example, columns, read_examples, score_file
from headrace.storage import Stored

Array = npt.NDArray[np.float64]
DRAWN_AT_ONCE = 2**22
"""Most counts held at one time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How much better a candidate scores than a reference; above 0 is better whatever the metric."""

    difference: float
    """Candidate less reference, in the metric's unit; for perplexities in nats per token (or byte)."""
    low: float
    """Lower end of the confidence interval."""
    high: float
    p_value: float
    """Share of draws without an advantage of the candidate, its own sample counted in; 1 where the scores are equal."""
    n: int
    """Examples compared."""


class Scores(NamedTuple):
    """Scores of N examples and what they are divided by when averaged."""

    values_N: Array
    weights_N: Array

    def mean(self) -> float:
        """Sum of values over sum of weights."""
        return float(self.values_N.sum() / self.weights_N.sum())


def compare(
    candidate: Stored[EvalReport],
    reference: Stored[EvalReport],
    metric: str,
    *,
    reference_metric: str | None = None,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare one metric of two reports, example by example.

    Args:
        candidate: Report of the model that should be better.
        reference: Report it is held against.
        metric: Such as `facts_heldout/exact_match`.
        reference_metric: The reference's metric, where it is measured under another name on the same
            examples, such as with few-shot prompts.
        confidence: Share of draws within the interval.
        resamples: Draws; the smallest p-value is one over this plus one.
        seed: Draws follow from it.

    Raises:
        MismatchError: The reports are of different data, or the examples are not the same.
        DataError: A report does not have the metric.
    """
    if not candidate.facts.data or candidate.facts.data != reference.facts.data:
        raise MismatchError(
            f"The reports are of different data or settings ({candidate.facts.data[:12] or 'none'} and "
            f"{reference.facts.data[:12] or 'none'}). Evaluate both checkpoints with the same configuration."
        )
    ours, theirs = read_scores(candidate, metric), read_scores(reference, reference_metric or metric)
    if [example.id for example in ours] != [example.id for example in theirs]:
        raise MismatchError(
            f"{metric} and {reference_metric or metric} are not of the same examples ({len(ours)} and {len(theirs)}). "
            "Compare tasks on the same file."
        )
    pair = (columns(ours, _leaf(metric)), columns(theirs, _leaf(reference_metric or metric)))
    return bootstrap(Scores(*pair[0]), Scores(*pair[1]), confidence=confidence, resamples=resamples, seed=seed)


def bootstrap(
    candidate: Scores, reference: Scores, *, confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Comparison:
    """Resample paired scores; equal arguments give equal results."""
    n = len(candidate.values_N)
    differences = np.concatenate(list(_draw(candidate, reference, resamples, seed)))
    tail = (1 - confidence) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    # The sample itself counts as a draw without advantage, so that no finite number of draws gives 0.
    p_value = (1 + int(np.count_nonzero(differences <= 0))) / (resamples + 1)
    return Comparison(
        difference=candidate.mean() - reference.mean(), low=float(low), high=float(high), p_value=p_value, n=n
    )


def read_scores(report: Stored[EvalReport], metric: str) -> Sequence[Example]:
    """Examples behind one metric of a report.

    Raises:
        DataError: The report does not have the metric.
    """
    if metric not in report.facts.metrics:
        raise DataError(f"{report.path} does not measure {metric!r}. {nearest(metric, report.facts.metrics)}")
    return read_examples(score_file(report.path, metric.rpartition("/")[0]))


def _draw(candidate: Scores, reference: Scores, resamples: int, seed: int) -> Iterator[Array]:
    """Differences of the means of resampled examples, a slice of resamples at a time.

    Examples with equal scores are interchangeable, so that only how many of each kind are drawn
    matters: for a comparison of accuracies there are three kinds, however many examples.
    """
    n = len(candidate.values_N)
    kinds_CK, counts_K = np.unique(_sides(candidate, reference), axis=1, return_counts=True)
    rng, at_once = np.random.default_rng(seed), max(1, DRAWN_AT_ONCE // len(counts_K))
    for start in range(0, resamples, at_once):
        drawn_RK = rng.multinomial(n, counts_K / n, min(at_once, resamples - start))
        sums_RC = drawn_RK @ kinds_CK.T
        yield sums_RC[:, 0] / sums_RC[:, 1] - (sums_RC[:, 2] / sums_RC[:, 3] if sums_RC.shape[1] == 4 else 0)


def _sides(candidate: Scores, reference: Scores) -> Array:
    """What a resample sums up, of shape (C, N): the differences and their weights, or both sides apart.

    Subtracting first, where the weights allow it, makes equal scores differ by exactly nothing.
    """
    if np.array_equal(candidate.weights_N, reference.weights_N):
        return np.stack([candidate.values_N - reference.values_N, candidate.weights_N])
    return np.stack([*candidate, *reference])


def _leaf(metric: str) -> str:
    return metric.rpartition("/")[2]
