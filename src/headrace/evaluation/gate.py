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
from headrace.evaluation import rules
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
        for bound in self.not_worse:
            if not bound.margin > 0:
                raise ConfigError(f"margin={bound.margin} of {bound.metric!r} allows no loss. Set it above 0.")


def decide(
    candidate: Stored[EvalReport],
    references: References,
    config: GateConfig,
    model_name: str,
    *,
    checkpoint: str | None = None,
    extra: Sequence[Rule] = (),
) -> Verdict:
    """Hold a candidate's report against the policy.

    Args:
        candidate: Its report.
        references: Reports by role; a `champion` of None (or absent) means that there is none yet.
        config: The policy.
        model_name: Registered name it would be promoted under.
        checkpoint: Digest of the checkpoint to promote, where known: a report of another one fails.
        extra: Rules decided elsewhere, such as that the checkpoint was not rolled back.
    """
    decided = (*_rules(candidate, references, config, checkpoint), *extra)
    champion = references.get(CHAMPION)
    return Verdict(
        passed=all(rule.passed for rule in decided),
        candidate=candidate.facts.checkpoint,
        champion=None if champion is None else champion.facts.checkpoint,
        model=model_name,
        rules=decided,
    )


def judge(
    output_uri: str | Path,
    reports: Mapping[str, str | Path],
    model_name: str,
    config: GateConfig,
    *,
    extra: Sequence[Rule] = (),
) -> Manifest:
    """Read reports, decide, and seal the verdict.

    Args:
        output_uri: Where the verdict goes.
        reports: By role: `candidate`, `base`, and `incumbent`, which stands for the champion and may be what
            `report.nothing_to_beat` wrote.
        model_name: Registered name the candidate would be promoted under.
        config: The policy.
        extra: Rules decided elsewhere.

    Raises:
        IntegrityError: A report that is not whole.
    """
    read = {role: storage.read(uri, EvalReport) for role, uri in reports.items()}
    incumbent = read.pop("incumbent", None)
    champion = incumbent if incumbent is not None and incumbent.facts.checkpoint else None
    candidate = read.pop("candidate")
    verdict = decide(candidate, {**read, CHAMPION: champion}, config, model_name, extra=extra)
    parents = {"candidate": candidate.digest, **{role: report.digest for role, report in read.items()}}
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


def stands(model_name: str, checkpoint: str) -> Rule:
    """Nobody has taken this checkpoint back from serving: what was rolled back stays back.

    Args:
        model_name: Registered name it would be promoted under.
        checkpoint: Digest of the candidate's checkpoint.
    """
    back = registry.was_rolled_back(model_name, checkpoint)
    reason = f"{checkpoint[:12]} was {'rolled back' if back else 'never rolled back'} as {model_name}."
    return Rule(name="not rolled back", passed=not back, reason=reason)
