"""A person's word: approving finishes a promotion that the gate began, rejecting ends it."""

from headrace.errors import AuthorityError, ConfigError, MismatchError
from headrace.registry.acts import Act, perform
from headrace.registry.entry import Entry
from headrace.registry.identity import acting
from headrace.registry.promotion import check_beaten, crowned, current
from headrace.registry.versions import CHALLENGER, Model, Version, resolve


def approve(reference: str, reason: str) -> Version:
    """Make the challenger champion.

    Args:
        reference: `NAME`, or `NAME/N` to approve that version and no other.
        reason: Why; kept in the trail.

    Returns:
        The version, now champion.

    Raises:
        AuthorityError: Whoever acts is not among the approvers that the policy names.
        ConfigError: No reason, or no challenger, or another one.
        MismatchError: There is another champion by now than the one it was held against.
    """
    return _decide(reference, reason, approved=True)


def reject(reference: str, reason: str) -> Version:
    """End the challenger's promotion; on the same verdict it does not come back.

    Args, returns and raises as `approve`, but that any champion will do.
    """
    return _decide(reference, reason, approved=False)


def _decide(reference: str, reason: str, *, approved: bool) -> Version:
    name, _, number = reference.removeprefix("models:/").partition("/")
    if not reason.strip():
        raise ConfigError("A decision needs its reason. Add --reason 'why'.")
    meant = resolve(reference if number else f"{name}@{CHALLENGER}").number

    def decide(model: Model) -> Act:
        version, proposal = _challenger(model, meant)
        _check_authority(model, proposal)
        if not approved:
            rest = {alias: at for alias, at in current(model).items() if alias != CHALLENGER}
            return Act(action="reject", version=version, aliases=rest, champion=proposal.champion)
        check_beaten(model, version.checkpoint, proposal.champion)
        return Act(action="approve", version=version, aliases=crowned(model, version), champion=proposal.champion)

    perform(name, decide, reason)
    return resolve(f"{name}/{meant}")


def _challenger(model: Model, meant: int) -> tuple[Version, Entry]:
    """The version that waits, and the entry that proposed it."""
    version = model.aliased(CHALLENGER)
    entries = model.trail.entries if model.trail else ()
    if version is None or version.number != meant:
        now = f"version {version.number}" if version else "none"
        told = next((f" It was decided: {e.action} by {e.who} at {e.at}." for e in reversed(entries)
                     if e.version == meant and e.action in ("approve", "reject")), "")  # fmt: skip
        raise MismatchError(f"{model.name} version {meant} does not wait for approval; the challenger is {now}.{told}")
    proposals = [entry for entry in entries if entry.action == "propose" and entry.version == meant]
    if not proposals:
        raise MismatchError(f"{model.name} version {meant} was never proposed by headrace. Run the gate on it.")
    return version, proposals[-1]


def _check_authority(model: Model, proposal: Entry) -> None:
    person = acting()
    if person.name not in proposal.approvers:
        raise AuthorityError(
            f"{person.name} ({person.known_by}) is no approver of {model.name}: its policy names "
            f"{', '.join(proposal.approvers)}. Ask one of them."
        )
