"""The conditions a gate is made of: each returns a Rule with the numbers that decided it.

A comparison that cannot be made settles its rule: it fails, except that there is nothing to compare with
a champion that does not exist yet.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from headrace.artifacts import EvalReport, Rule
from headrace.errors import DataError, MismatchError
from headrace.evaluation.compare import Comparison, compare
from headrace.storage import Stored

CHAMPION = "champion"
References = Mapping[str, Stored[EvalReport] | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Side:
    """What a candidate's metric is compared with, and how."""

    reference: str
    """Role of the other report."""
    theirs: str
    """The other report's metric."""
    resamples: int
    seed: int


def evidence(candidate: Stored[EvalReport], metric: str, min_examples: int, checkpoint: str | None = None) -> Rule:
    """The report is of the checkpoint to promote, where that is known, and has the metric on enough examples."""
    facts = candidate.facts
    if not facts.checkpoint or (checkpoint is not None and facts.checkpoint != checkpoint):
        wanted, found = (checkpoint or "a checkpoint")[:12], facts.checkpoint[:12] or "none"
        return Rule(name="evidence", passed=False, reason=f"The report is of {found}, and {wanted} is to be promoted.")
    if metric not in facts.metrics:
        return Rule(name="evidence", passed=False, reason=f"The report does not measure {metric}.")
    n = facts.metrics[metric].n
    reason = f"{metric} was measured on {n} examples; {min_examples} are asked for."
    return Rule(name="evidence", passed=n >= min_examples, reason=reason, numbers=_numbers(n=n, asked=min_examples))


def floor(candidate: Stored[EvalReport], metric: str, worst: float) -> Rule:
    """The metric itself is good enough; exactly `worst` is."""
    measured = candidate.facts.metrics.get(metric)
    if measured is None:
        return Rule(name="floor", passed=False, reason=f"The report does not measure {metric}.")
    passed = measured.value >= worst if measured.higher_is_better else measured.value <= worst
    bound = "least" if measured.higher_is_better else "most"
    reason = f"{metric} is {measured.value:.4g} ± {measured.stderr:.2g}; at {bound} {worst:.4g} is asked for."
    return Rule(name="floor", passed=passed, reason=reason, numbers=_numbers(value=measured.value, floor=worst))


def beats(candidate: Stored[EvalReport], references: References, metric: str, side: Side, alpha: float) -> Rule:
    """The candidate is better than a reference, and chance does not explain it."""
    name = f"beats {side.reference}" + (f" on {side.theirs}" if side.theirs != metric else "")
    found = _compare(name, candidate, references, metric, side)
    if isinstance(found, Rule):
        return found
    reason = (
        f"{metric} differs from {side.reference}'s {side.theirs} by {_shown(found)}, "
        f"p = {found.p_value:.2g}; p below {alpha:g} is asked for."
    )
    return Rule(name=name, passed=found.p_value < alpha, reason=reason, numbers=_numbers(**asdict(found), alpha=alpha))


def not_worse(candidate: Stored[EvalReport], references: References, metric: str, side: Side, margin: float) -> Rule:
    """With confidence, the candidate loses less than a margin."""
    name = f"{metric} not worse than {side.reference}"
    found = _compare(name, candidate, references, metric, side)
    if isinstance(found, Rule):
        return found
    reason = (
        f"{metric} differs from {side.reference}'s by {_shown(found)}; "
        f"a loss of {margin:g} must lie outside the interval."
    )
    return Rule(name=name, passed=found.low > -margin, reason=reason, numbers=_numbers(**asdict(found), margin=margin))


def _compare(
    name: str, candidate: Stored[EvalReport], references: References, metric: str, side: Side
) -> Comparison | Rule:
    """Compare with a reference; or the rule, where that cannot be done."""
    reference = references.get(side.reference)
    if reference is None and side.reference == CHAMPION:
        return Rule(name=name, passed=True, reason="There is no champion yet.")
    if reference is None:
        return Rule(name=name, passed=False, reason=f"There is no report of {side.reference} to compare with.")
    if reference.facts.checkpoint == candidate.facts.checkpoint:
        return Rule(name=name, passed=False, reason=f"The {side.reference} is this very checkpoint.")
    options = {"resamples": side.resamples, "seed": side.seed}
    try:
        return compare(candidate, reference, metric, reference_metric=side.theirs, **options)
    except (MismatchError, DataError) as error:
        return Rule(name=name, passed=False, reason=str(error))


def _shown(found: Comparison) -> str:
    return f"{found.difference:+.4g} ({found.low:+.4g} to {found.high:+.4g})"


def _numbers(**values: float) -> dict[str, float]:
    """All as floats, as they are read back from a manifest."""
    return {name: float(value) for name, value in values.items()}
