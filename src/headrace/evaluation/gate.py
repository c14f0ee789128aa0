"""Whether a candidate may be promoted: one rule a condition, each with the numbers that decided it.

Passing needs evidence. A tie, a missing report, a report of other data or a number that is no number
fails its rule; the one exception is a champion that does not exist yet. All rules must pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace import registry, storage
from headrace.artifacts import EvalReport, Manifest, Rule, Verdict
from headrace.errors import ConfigError
from headrace.evaluation import guarantees, rules
from headrace.evaluation.evidence import NOTHING, Evidence, as_evidence, read_evidence
from headrace.evaluation.rules import CHAMPION, References
from headrace.storage import Stored

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
    """No document trained on may overlap with an evaluation item, and this share of the items, 0 to 1, must have
    been looked for; None asks for no report on the data."""
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


def decide(
    candidate: Stored[EvalReport],
    references: References,
    config: GateConfig,
    model_name: str,
    *,
    checkpoint: str | None = None,
    evidence: Evidence = NOTHING,
    extra: Sequence[Rule] = (),
) -> Verdict:
    """Hold a candidate's report against the policy.

    Args:
        candidate: Its report.
        references: Reports by role; a `champion` of None (or absent) means that there is none yet.
        config: The policy.
        model_name: Registered name it would be promoted under.
        checkpoint: Digest of the checkpoint to promote, where known: a report of another one fails.
        evidence: What else there is to decide by.
        extra: Rules decided elsewhere, such as that the checkpoint was not rolled back.
    """
    if checkpoint is None and evidence.checkpoint is not None:
        checkpoint = evidence.checkpoint.digest
    decided = (*_rules(candidate, references, config, checkpoint), *_guarantees(candidate, evidence, config), *extra)
    champion = references.get(CHAMPION)
    return Verdict(
        passed=all(rule.passed for rule in decided),
        candidate=candidate.facts.checkpoint,
        champion=None if champion is None else champion.facts.checkpoint,
        model=model_name,
        rules=decided,
        approvers=config.approvers,
    )


def judge(
    output_uri: str | Path,
    reports: Mapping[str, str | Path],
    model_name: str,
    config: GateConfig,
    *,
    evidence: Mapping[str, str | Path] = {},
    extra: Sequence[Rule] = (),
) -> Manifest:
    """Read reports, decide, and seal the verdict.

    Args:
        output_uri: Where the verdict goes.
        reports: By role: `candidate`, `base`, and `incumbent`, which stands for the champion and may be what
            `report.nothing_to_beat` wrote.
        model_name: Registered name the candidate would be promoted under.
        config: The policy; its certificate and its reports on data are read too.
        evidence: Besides reports, by role: `checkpoint`, `endpoint` and `data`.
        extra: Rules decided elsewhere.

    Raises:
        IntegrityError: A report or other evidence that is not whole.
        MismatchError: Evidence of another kind than its role.
    """
    read = {role: storage.read(uri, EvalReport) for role, uri in reports.items()}
    incumbent = read.pop("incumbent", None)
    champion = incumbent if incumbent is not None and incumbent.facts.checkpoint else None
    candidate = read.pop("candidate")
    given = read_evidence({**evidence, **config.stored_evidence()})
    verdict = decide(
        candidate, {**read, CHAMPION: champion}, config, model_name, evidence=as_evidence(given), extra=extra
    )
    parents = {role: stored.digest for role, stored in {"candidate": candidate, **read, **given}.items()}
    return write_verdict(output_uri, verdict, parents | ({"champion": incumbent.digest} if incumbent else {}))


def write_verdict(output_uri: str | Path, verdict: Verdict, parents: Mapping[str, str]) -> Manifest:
    """Seal a verdict.

    Args:
        output_uri: Where it goes.
        verdict: What was decided.
        parents: Digests of the reports it rests on, by role.
    """
    with storage.writing(output_uri) as tree:
        return tree.commit(verdict, parents)


def _rules(
    candidate: Stored[EvalReport], references: References, config: GateConfig, checkpoint: str | None
) -> Iterator[Rule]:
    """Every condition of the policy, decided."""

    def side(reference: str, theirs: str) -> rules.Side:
        return rules.Side(reference=reference, theirs=theirs, resamples=config.resamples, seed=config.seed)

    yield rules.evidence(candidate, config.metric, config.min_examples, checkpoint)
    if config.floor is not None:
        yield rules.floor(candidate, config.metric, config.floor)
    for beat in config.beats:
        versus = side(beat.reference, beat.metric or config.metric)
        yield rules.beats(candidate, references, config.metric, versus, config.alpha)
    for bound in config.not_worse:
        yield rules.not_worse(candidate, references, bound.metric, side(bound.reference, bound.metric), bound.margin)


def _guarantees(candidate: Stored[EvalReport], evidence: Evidence, config: GateConfig) -> Iterator[Rule]:
    """The policy's conditions besides scores, decided."""
    if config.max_latency_ms is not None:
        yield guarantees.fast_enough(candidate.facts.checkpoint, evidence.endpoint, config.max_latency_ms)
    if config.min_items_checked is not None:
        share = config.min_items_checked
        yield guarantees.decontaminated(candidate, evidence.checkpoint, evidence.data, share, config.vouched)
    if config.certificate is not None:
        yield guarantees.resumable(evidence.checkpoint, evidence.certificate)


def stands(model_name: str, checkpoint: str) -> Rule:
    """Nobody has taken this checkpoint back from serving: what was rolled back stays back.

    Args:
        model_name: Registered name it would be promoted under.
        checkpoint: Digest of the candidate's checkpoint.
    """
    back = registry.was_rolled_back(model_name, checkpoint)
    reason = f"{checkpoint[:12]} was {'rolled back' if back else 'never rolled back'} as {model_name}."
    return Rule(name="not rolled back", passed=not back, reason=reason)
