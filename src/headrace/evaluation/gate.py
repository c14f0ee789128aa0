"""Whether a candidate may be promoted: one rule a condition, each with the numbers that decided it.

Passing needs evidence. A tie, a missing report, a report of other data or a number that is no number
fails its rule; the one exception is a champion that does not exist yet. All rules must pass.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from headrace import registry, storage
from headrace.artifacts import EvalReport, Manifest, Rule, Verdict
from headrace.evaluation import guarantees, rules
from headrace.evaluation.clean_data import decontaminated
from headrace.evaluation.evidence import NOTHING, Evidence, as_evidence, read_evidence
from headrace.evaluation.policy import GateConfig
from headrace.evaluation.rules import CHAMPION, References
from headrace.storage import Stored


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
    measured = {"candidate": candidate, **read} | ({CHAMPION: incumbent} if incumbent is not None else {})
    return write_verdict(output_uri, verdict, measured, given)


def write_verdict(
    output_uri: str | Path,
    verdict: Verdict,
    reports: Mapping[str, Stored[EvalReport]],
    evidence: Mapping[str, Stored[Any]] = {},
) -> Manifest:
    """Seal a verdict, with what the reports measured.

    Args:
        output_uri: Where it goes.
        verdict: What was decided.
        reports: Those it rests on, by role.
        evidence: What else it rests on.
    """
    with storage.writing(output_uri) as tree:
        registry.keep_reports(tree.path, {role: stored.manifest for role, stored in reports.items()})
        return tree.commit(verdict, {role: stored.digest for role, stored in {**reports, **evidence}.items()})


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
        yield decontaminated(candidate, evidence.checkpoint, evidence.data, share, config.vouched)
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
