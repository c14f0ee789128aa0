"""Facts about what was measured of a checkpoint, and what a gate made of it."""

from dataclasses import dataclass, field
from typing import ClassVar

from headrace.artifacts.training import MaskContract


@dataclass(frozen=True, kw_only=True, slots=True)
class Metric:
    """One measured number with what is needed to doubt it."""

    value: float
    stderr: float
    """Standard error of `value` over the examples."""
    n: int
    """Examples measured."""
    higher_is_better: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class EvalReport:
    """Metrics of one checkpoint; the scores of each example lie beside them as Parquet."""

    kind: ClassVar[str] = "eval_report"

    checkpoint: str
    """Digest of the checkpoint measured."""
    mask: MaskContract
    metrics: dict[str, Metric]
    """By `task/metric`, such as `facts_heldout/exact_match`."""
    data: str = ""
    """Digest over the evaluation data and what was asked of it; reports are comparable where it is equal."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """One condition of a gate, with the numbers that decided it."""

    name: str
    passed: bool
    reason: str
    """One sentence with the values compared."""
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Verdict:
    """A gate's decision about one candidate, rule by rule."""

    kind: ClassVar[str] = "verdict"

    passed: bool
    candidate: str
    """Digest of the candidate's checkpoint."""
    champion: str | None
    """Digest of the champion's checkpoint it was held against; None where there was none."""
    model: str
    """Registered name the verdict is about."""
    rules: tuple[Rule, ...]
    approvers: tuple[str, ...] = ()
    """Who may approve the promotion; where there are any, one of them must."""
