"""What a trail says about each version, as the version's tags."""

from collections.abc import Iterable

from headrace.registry.entry import Entry

CHECKPOINT, VERDICT = "headrace.checkpoint", "headrace.verdict"
REPLACED, PROMOTED_AT, PROMOTED_BY = "headrace.replaced", "headrace.promoted_at", "headrace.promoted_by"
ROLLED_BACK, REJECTED = "headrace.rolled_back", "headrace.rejected"


def marks(entries: Iterable[Entry]) -> dict[int, dict[str, str]]:
    """Tags by version; a mark that was lifted is empty."""
    marked: dict[int, dict[str, str]] = {}
    for entry in entries:
        mine = marked.setdefault(entry.version, {CHECKPOINT: entry.checkpoint, VERDICT: entry.verdict})
        match entry.action:
            case "promote" | "approve":
                _lift(marked, entry.checkpoint)
                replaced = str(entry.aliases.get("previous", ""))
                mine |= {REPLACED: replaced, PROMOTED_AT: entry.at, PROMOTED_BY: entry.who}
            case "rollback":
                mine[ROLLED_BACK] = _told(entry)
            case "reject":
                mine[REJECTED] = _told(entry)
    return marked


def _told(entry: Entry) -> str:
    """When, who and why, for a reader."""
    why = f": {entry.reason}" if entry.reason else ""
    return f"{entry.at} by {entry.who}{why}"


def _lift(marked: dict[int, dict[str, str]], checkpoint: str) -> None:
    """A checkpoint that is promoted is not taken back or rejected any more, whichever version it was."""
    for tags in marked.values():
        if tags[CHECKPOINT] == checkpoint:
            tags |= {mark: "" for mark in (ROLLED_BACK, REJECTED) if mark in tags}
