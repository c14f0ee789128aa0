"""Conditions on a candidate besides its scores: how fast it answers, what it was trained on, that its run resumes.

Each is decided by the numbers of a sealed artifact that is about this very candidate. Where there is none, or
one about something else, the condition fails.
"""

import json
from collections.abc import Mapping, Sequence, Set
from typing import Any

from headrace.artifacts import Checkpoint, DataSummary, Endpoint, EvalReport, ResumeCertificate, Rule
from headrace.data.provenance import Stage, stages_of
from headrace.data.report.report import NUMBERS_FILE
from headrace.evaluation.details import measured_files
from headrace.storage import Stored
from headrace.tracking import flatten

LATENCY, DATA, RESUMING = "latency", "decontaminated data", "resume certificate"
CERTIFIED_CONFIG = "config.json"
"""The configuration of the certified run, within its certificate."""
SHORTENED = {"steps", "checkpoint_every_steps", "log_every_steps", "guard.skips"}
"""What a certified run, to be short, has in other values than its own."""


def fast_enough(candidate: str, endpoint: Stored[Endpoint] | None, most_ms: float) -> Rule:
    """The candidate was served and answered within a budget.

    Args:
        candidate: Digest of its checkpoint.
        endpoint: What its rehearsal recorded.
        most_ms: Most milliseconds that the median probe may take, first byte to last; exactly as many may.
    """
    if endpoint is None:
        return _missing(LATENCY, "The candidate was not rehearsed behind an endpoint.")
    facts = endpoint.facts
    if facts.checkpoint != candidate:
        return _missing(LATENCY, f"The endpoint served {facts.checkpoint[:12]}, and {candidate[:12]} is judged.")
    reason = f"The median of {len(facts.answers)} probes took {facts.latency_ms:.4g} ms; at most {most_ms:g} may."
    numbers = {"latency_ms": facts.latency_ms, "budget_ms": most_ms, "probes": float(len(facts.answers))}
    return Rule(name=LATENCY, passed=facts.latency_ms <= most_ms, reason=reason, numbers=numbers)


def decontaminated(
    candidate: Stored[EvalReport],
    checkpoint: Stored[Checkpoint] | None,
    reports: Sequence[Stored[DataSummary]],
    min_checked: float,
    vouched: Sequence[str] = (),
) -> Rule:
    """No document that any stage of the candidate's training was given overlaps with an item it was measured on.

    Args:
        candidate: Its scores, and which files they were taken on.
        checkpoint: The candidate, which knows its stages and their shards.
        reports: On these shards, or on the pieces that they were joined from. Each must have looked for the items of
            all these files: of others, however clean, it tells nothing.
        min_checked: Least share of the evaluation items that must have been looked for.
        vouched: Digests of checkpoints trained elsewhere that may stand without a report.
    """
    if checkpoint is None or not reports:
        return _missing(DATA, f"There is no {'report on the data' if checkpoint else 'checkpoint to trace data of'}.")
    untold = _untold(
        stages_of(checkpoint), {digest for one in reports for digest in one.manifest.parents.values()}, vouched
    )
    untold = untold or _not_looked_for(candidate, reports)
    return _missing(DATA, untold) if untold else _clean(reports, min_checked)


def _not_looked_for(candidate: Stored[EvalReport], reports: Sequence[Stored[DataSummary]]) -> str:
    """Which items somebody's report did not look for, as a sentence; empty where all looked for all."""
    measured = list(measured_files(candidate))
    if not measured:
        return "The candidate's report does not say which files it was measured on."
    for report in reports:
        for name, data, file in measured:
            if file not in report.facts.item_files:
                told = f"{name} was measured on {data} ({file[:12]}), whose items"
                return f"{told} the data report {report.digest[:12]} did not look for. Report on the data with them."
    return ""


def _untold(stages: Sequence[Stage], reported: Set[str], vouched: Sequence[str]) -> str:
    """What of the data nobody has reported on, as a sentence; empty where all is."""
    if not stages:
        return "The candidate names no data."
    if (origin := stages[0].init) is not None and origin not in vouched:
        return f"Nobody recorded what {origin[:12]}, which training began from, was trained on, or vouches for it."
    for number, stage in enumerate(stages, start=1):
        for name, given in stage.shards.items():
            if not (given.digest in reported or (given.pieces and reported >= {*given.pieces})):
                told = f"{name} {given.digest[:12]}, which stage {number} of {len(stages)} was trained on"
                return f"There is no report on {told}."
    return ""


def _clean(reports: Sequence[Stored[DataSummary]], min_checked: float) -> Rule:
    """The reports' own numbers; where they looked for items, the one that looked for least decides."""
    left = sum(one.facts.overlapping - one.facts.contaminated for one in reports)
    checked, items = min(map(_looked_for, reports), key=lambda found: found[0] / max(1, found[1]))
    reason = (
        f"{left} documents that were kept overlap with an evaluation item, and none may; "
        f"{checked} of {items} items were looked for, {min_checked:.0%} at least are asked for."
    )
    numbers = {"overlapping": left, "checked": checked, "items": items, "min_checked": min_checked}
    return Rule(
        name=DATA,
        passed=left == 0 and checked > 0 and checked >= min_checked * items,
        reason=reason,
        numbers={name: float(value) for name, value in numbers.items()},
    )


def _looked_for(report: Stored[DataSummary]) -> tuple[int, int]:
    """Evaluation items that a report's filter looked for, and all it was given."""
    unchecked = int(json.loads((report.path / NUMBERS_FILE).read_text(encoding="utf-8"))["unchecked"])
    return report.facts.items - unchecked, report.facts.items


def resumable(checkpoint: Stored[Checkpoint] | None, certificate: Stored[ResumeCertificate] | None) -> Rule:
    """A run like the candidate's was killed, resumed, and found equal to the last bit."""
    if checkpoint is None or certificate is None:
        return _missing(RESUMING, f"There is no {'certificate' if checkpoint else 'checkpoint to compare one with'}.")
    facts = certificate.facts
    theirs = json.loads((certificate.path / CERTIFIED_CONFIG).read_text(encoding="utf-8"))
    if other := _differing(checkpoint.facts.config, theirs):
        return _missing(
            RESUMING, f"The certificate of {facts.recipe}'s {facts.stage} has another {', '.join(other[:5])}."
        )
    kills = len(facts.killed_at)
    told = "nothing differed" if facts.passed else f"{'; '.join(facts.differences)}"
    reason = f"{facts.stage} of {facts.recipe} was killed {kills} times in {facts.steps} steps ({facts.code}): {told}."
    numbers = {"kills": float(kills), "steps": float(facts.steps), "differences": float(len(facts.differences))}
    return Rule(name=RESUMING, passed=facts.passed and kills > 0, reason=reason, numbers=numbers)


def _differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    """Keys of two configurations that are not the same, what shortening changes left out."""
    one, other = flatten(ours), flatten(theirs)
    return [key for key in sorted({*one, *other} - SHORTENED) if one.get(key) != other.get(key)]


def _missing(name: str, reason: str) -> Rule:
    return Rule(name=name, passed=False, reason=reason)
