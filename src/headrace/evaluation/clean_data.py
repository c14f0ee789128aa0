"""Whether a candidate was trained on nothing that it is measured on, as sealed reports on its data tell.

The reports must cover every stage of its training, and must have looked for the very items of its scores: of other
items, however clean, they are no evidence.
"""

from collections.abc import Sequence, Set
from typing import NamedTuple

from headrace.artifacts import Checkpoint, DataSummary, EvalReport, Rule
from headrace.evaluation.details import measured_files
from headrace.provenance import Stage, stages_of
from headrace.storage import Stored

DATA = "decontaminated data"


class Coverage(NamedTuple):
    """How many items of what was measured a report looked for."""

    name: str
    checked: int
    items: int


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
        min_checked: Least share of the items of each of these files that must have been looked for.
        vouched: Digests of checkpoints trained elsewhere that may stand without a report.
    """
    if checkpoint is None or not reports:
        return _missing(f"There is no {'report on the data' if checkpoint else 'checkpoint to trace data of'}.")
    untold = _untold(
        stages_of(checkpoint), {digest for one in reports for digest in one.manifest.parents.values()}, vouched
    )
    untold = untold or _not_looked_for(candidate, reports)
    return _missing(untold) if untold else _clean(candidate, reports, min_checked)


def _not_looked_for(candidate: Stored[EvalReport], reports: Sequence[Stored[DataSummary]]) -> str:
    """Which items somebody's report did not look for, as a sentence; empty where all looked for all."""
    measured = list(measured_files(candidate))
    if not measured:
        return "The candidate's report does not say which files it was measured on."
    for report in reports:
        for name, data, file in measured:
            if not any(file in one.files for one in report.facts.looked_for.values()):
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


def _clean(candidate: Stored[EvalReport], reports: Sequence[Stored[DataSummary]], min_checked: float) -> Rule:
    """The reports' own numbers; what was looked for least decides."""
    left = sum(one.facts.overlapping - one.facts.contaminated for one in reports)
    name, checked, items = min(_covered(candidate, reports), key=lambda found: found.checked / max(1, found.items))
    reason = (
        f"{left} documents that were kept overlap with an evaluation item, and none may; "
        f"{checked} of {items} items of {name} were looked for, {min_checked:.0%} at least are asked for."
    )
    numbers = {"overlapping": left, "checked": checked, "items": items, "min_checked": min_checked}
    return Rule(
        name=DATA,
        passed=left == 0 and checked > 0 and checked >= min_checked * items,
        reason=reason,
        numbers={key: float(value) for key, value in numbers.items()},
    )


def _covered(candidate: Stored[EvalReport], reports: Sequence[Stored[DataSummary]]) -> list[Coverage]:
    """By report and by file that was measured; all splits that a report has a file in count."""
    return [
        Coverage(measured.name, one.items - one.unchecked, one.items)
        for report in reports
        for measured in measured_files(candidate)
        for one in report.facts.looked_for.values()
        if measured.fingerprint in one.files
    ]


def _missing(reason: str) -> Rule:
    return Rule(name=DATA, passed=False, reason=reason)
