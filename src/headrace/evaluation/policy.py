"""What a candidate must show before it is promoted: the typed policy of a recipe.

A policy that would let a model pass without evidence is refused when it is made.
"""

from dataclasses import dataclass

from headrace.errors import ConfigError
from headrace.evaluation.rules import CHAMPION

BASE = "base"


@dataclass(frozen=True, kw_only=True, slots=True)
class Beat:
    """A reference that the candidate must be better than."""

    reference: str
    """`base` or `champion`, or another report handed to the gate."""
    metric: str | None = None
    """The reference's metric, where its best case has another name, such as with few-shot prompts; the
    candidate's otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NonInferiority:
    """A metric on which the candidate may lose, but not much."""

    metric: str
    margin: float
    """Largest loss allowed, in the unit of the metric; for perplexities in nats per token (or byte)."""
    reference: str = CHAMPION


@dataclass(frozen=True, kw_only=True, slots=True)
class GateConfig:
    """What a candidate must show."""

    metric: str = "facts/exact_match"
    """What is decided by, as `task/metric`."""
    floor: float | None = None
    """Worst value allowed, whatever the references reach; None asks for nothing but the references."""
    beats: tuple[Beat, ...] = (Beat(reference=BASE), Beat(reference=CHAMPION))
    """References it must beat."""
    alpha: float = 0.05
    """A reference is beaten where the paired bootstrap's one-sided p-value is below this."""
    not_worse: tuple[NonInferiority, ...] = ()
    """Losses that are bounded: the whole confidence interval must lie above the margin."""
    min_examples: int = 30
    """Fewer examples are no evidence: resampling cannot see what it has not drawn."""
    max_latency_ms: float | None = None
    """Most milliseconds that the median probe of the candidate's rehearsal may take; None asks for no rehearsal."""
    min_items_checked: float | None = None
    """No document trained on may overlap with an evaluation item, and this share of the items of everything that is
    measured, 0 to 1, must have been looked for; None asks for no report on the data."""
    data_reports: tuple[str, ...] = ()
    """Where reports on the training data lie, besides what the chain itself reports: a chain that prepares no data
    has no other. They must cover every stage, pretraining too."""
    vouched: tuple[str, ...] = ()
    """Digests of checkpoints trained elsewhere whose data somebody answers for, such as an imported base model."""
    certificate: str | None = None
    """Where the certificate lies that `headrace verify resume` made of the candidate's run; None asks for none."""
    approvers: tuple[str, ...] = ()
    """Who may approve what passes; one of them must before it is promoted. Empty promotes it at once."""
    resamples: int = 10_000
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise ConfigError(f"alpha={self.alpha} is no level of significance. Set it above 0 and below 0.5.")
        if not self.beats:
            raise ConfigError("beats is empty, so that any model passes by its floor. Name a reference, such as base.")
        if self.min_examples < 2 or self.resamples < 1 / self.alpha:
            raise ConfigError(
                f"min_examples={self.min_examples} and resamples={self.resamples} cannot show significance at "
                f"alpha={self.alpha}. Set 2 examples or more, and more resamples than {1 / self.alpha:.0f}."
            )
        if self.max_latency_ms is not None and not self.max_latency_ms > 0:
            raise ConfigError(f"max_latency_ms={self.max_latency_ms} lets no answer pass. Set it above 0.")
        if self.min_items_checked is not None and not 0 < self.min_items_checked <= 1:
            raise ConfigError(f"min_items_checked={self.min_items_checked} is no share. Set it above 0, up to 1.")
        if not all(name.strip() == name != "" for name in self.approvers):
            raise ConfigError(f"approvers={list(self.approvers)} has a name that nobody has. Name users, or nobody.")
        for bound in self.not_worse:
            if not bound.margin > 0:
                raise ConfigError(f"margin={bound.margin} of {bound.metric!r} allows no loss. Set it above 0.")

    def stored_evidence(self) -> dict[str, str]:
        """Where the evidence lies that the policy itself names, by role."""
        found = {f"data_{number}": uri for number, uri in enumerate(self.data_reports)}
        return found | ({"certificate": self.certificate} if self.certificate else {})

    def wanted_evidence(self) -> dict[str, str]:
        """Roles of the evidence that the chain must provide, and the key that asks for each."""
        wanted = {"endpoint": "max_latency_ms"} if self.max_latency_ms is not None else {}
        unreported = self.min_items_checked is not None and not self.data_reports
        return wanted | ({"data": "min_items_checked"} if unreported else {})
