"""Who came before whom: the version that a candidate must beat, and what was taken back."""

from headrace.registry.marks import REPLACED, ROLLED_BACK
from headrace.registry.versions import CHAMPION, Model, Version, look


def incumbent(name: str, candidate: str) -> Version | None:
    """The version that a candidate must beat: the champion, or what the champion replaced if it is the candidate.

    The same question thus has the same answer before and after the candidate's own promotion.

    Args:
        name: The registered model.
        candidate: Digest of the candidate's checkpoint.
    """
    model = look(name)
    return to_beat(model, candidate) if model else None


def to_beat(model: Model, candidate: str) -> Version | None:
    """The same of a model that was looked at."""
    now = model.aliased(CHAMPION)
    return replaced_by(model, now) if now is not None and now.checkpoint == candidate else now


def replaced_by(model: Model, version: Version, taken: str = "") -> Version | None:
    """The version that `version` replaced; down the chain past whatever was taken back since.

    Args:
        model: As it stands.
        version: One of its versions.
        taken: Digest of a checkpoint that is being taken back right now.
    """
    back = {other.checkpoint for other in model.versions if other.tags.get(ROLLED_BACK)} | {version.checkpoint, taken}
    seen = {version.number}
    before: Version | None = version
    while before is not None:
        number = int(before.tags.get(REPLACED) or 0)
        before = model.numbered(number) if number not in seen else None
        seen.add(number)
        if before is not None and before.checkpoint not in back:
            return before
    return None


def was_rolled_back(name: str, candidate: str) -> bool:
    """Whether somebody has taken this checkpoint back from serving."""
    model = look(name)
    return model is not None and bool(taken_back(model, candidate))


def taken_back(model: Model, candidate: str) -> str:
    """When, by whom and why a checkpoint was taken back; empty where it was not."""
    told = (version.tags.get(ROLLED_BACK, "") for version in model.versions if version.checkpoint == candidate)
    return next(filter(None, told), "")
