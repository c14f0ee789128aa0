"""Conditions on a candidate besides its scores: how fast it answers, and that its run resumes.

Each is decided by the numbers of a sealed artifact that is about this very candidate. Where there is none, or
one about something else, the condition fails.
"""

import json
from collections.abc import Mapping
from typing import Any

from headrace.artifacts import Checkpoint, Endpoint, ResumeCertificate, Rule
from headrace.storage import Stored
from headrace.tracking import flatten

LATENCY, RESUMING = "latency", "resume certificate"
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
