"""Who came before whom: the version that a candidate must beat, and what was taken back."""

from headrace.registry.versions import REPLACED, ROLLED_BACK, Version, champion, names, versions


def incumbent(name: str, candidate: str) -> Version | None:
    """The version that a candidate must beat: the champion, or what the champion replaced if it is the candidate.

    The same question thus has the same answer before and after the candidate's own promotion.

    Args:
        name: The registered model.
        candidate: Digest of the candidate's checkpoint.
    """
    now = champion(name)
    return replaced_by(now) if now is not None and now.checkpoint == candidate else now


def replaced_by(version: Version) -> Version | None:
    """The version that `version` replaced; down the chain past whatever was taken back since."""
    known = {other.number: other for other in versions(version.name)}
    back = {other.checkpoint for other in known.values() if ROLLED_BACK in other.tags} | {version.checkpoint}
    seen = {version.number}
    before: Version | None = version
    while before is not None:
        number = int(before.tags.get(REPLACED) or 0)
        before = known.get(number) if number not in seen else None
        seen.add(number)
        if before is not None and before.checkpoint not in back:
            return before
    return None


def was_rolled_back(name: str, candidate: str) -> bool:
    """Whether somebody has taken this checkpoint back from serving."""
    if name not in names():
        return False
    return any(version.checkpoint == candidate and ROLLED_BACK in version.tags for version in versions(name))
