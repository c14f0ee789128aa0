"""Promotion: a checkpoint registered with the verdict that allows it, as champion or, to be approved, challenger.

A checkpoint that is champion already stays the version it is, with the evidence it was first promoted on,
whatever other verdicts pass it later. What a person took back or rejected comes back only for a reason that
a person gives.
"""

import dataclasses

from headrace import storage
from headrace.artifacts import Checkpoint, ModelVersion, Verdict
from headrace.errors import ConfigError, MismatchError
from headrace.registry import trail
from headrace.registry.acts import Act, perform
from headrace.registry.marks import PROMOTED_AT, PROMOTED_BY, REJECTED, VERDICT
from headrace.registry.registration import find, register
from headrace.registry.succession import taken_back, to_beat
from headrace.registry.versions import CHALLENGER, CHAMPION, PREVIOUS, Model, Version, known, look
from headrace.storage import Stored

UNNAMEABLE = "/:@'"
"""What a reference to a version, or MLflow's search for one, would take for its own."""


def promote(name: str, checkpoint_uri: str, verdict_uri: str, *, run_id: str, reason: str = "") -> ModelVersion:
    """Register a checkpoint with its verdict and make it champion; doing it again changes nothing.

    Where the verdict names approvers it becomes challenger instead, until one of them approves it.

    Args:
        name: The registered model.
        checkpoint_uri: A sealed Checkpoint.
        verdict_uri: The sealed Verdict that allows it.
        run_id: The MLflow run that keeps the files.
        reason: Why, where a person promotes.

    Raises:
        ConfigError: `name` cannot name a model, or names one that headrace did not register.
        MismatchError: The verdict did not pass, or judged another checkpoint or model, or against another
            champion than there is; or, without a reason, the checkpoint was taken back or rejected since.
    """
    checkpoint = storage.read(checkpoint_uri, Checkpoint)
    verdict = storage.read(verdict_uri, Verdict)
    _check_verdict(name, checkpoint, verdict)
    model = look(name)
    check_standing(model or Model(name=name, trail=None), verdict, reason)
    if model is None:
        trail.begin(name)

    def decide(model: Model) -> Act | None:
        if standing(model, verdict) is not None:
            return None
        check_standing(model, verdict, reason)
        version = find(model, verdict) or register(name, checkpoint, verdict, run_id)
        return _act(model, version, verdict.facts)

    perform(name, decide, reason)
    return _promoted(known(name), verdict)


def _act(model: Model, version: Version, verdict: Verdict) -> Act:
    proposed = Act(
        action="propose",
        version=version,
        aliases=current(model) | {CHALLENGER: version.number},
        champion=verdict.champion or "",
        approvers=verdict.approvers,
    )
    if verdict.approvers:
        return proposed
    return dataclasses.replace(proposed, action="promote", aliases=crowned(model, version))


def current(model: Model) -> dict[str, int]:
    """Where the aliases stand, of versions that exist."""
    found = {alias: model.aliased(alias) for alias in (CHALLENGER, CHAMPION, PREVIOUS)}
    return {alias: version.number for alias, version in found.items() if version is not None}


def crowned(model: Model, version: Version) -> dict[str, int]:
    """Where the aliases stand once `version` is champion."""
    before = current(model)
    after = {CHAMPION: version.number}
    if CHAMPION in before:
        after[PREVIOUS] = before[CHAMPION]
    if before.get(CHALLENGER, version.number) != version.number:
        after[CHALLENGER] = before[CHALLENGER]
    return after


def standing(model: Model, verdict: Stored[Verdict]) -> Version | None:
    """The version by which a promotion on this verdict is done already; None where it is not."""
    champion, challenger = model.aliased(CHAMPION), model.aliased(CHALLENGER)
    if champion is not None and champion.checkpoint == verdict.facts.candidate:
        return champion
    waits = challenger is not None and challenger.tags.get(VERDICT) == verdict.digest
    return challenger if waits and verdict.facts.approvers else None


def _promoted(model: Model, verdict: Stored[Verdict]) -> ModelVersion:
    version = standing(model, verdict)
    if version is None:
        last = model.trail.entries[-1] if model.trail else None
        raise MismatchError(
            f"{model.name} {verdict.facts.candidate[:12]} was promoted, and {last.who if last else 'somebody'} has "
            f"changed that since. See `headrace models audit {model.name}`."
        )
    return ModelVersion(
        name=model.name,
        version=version.number,
        alias=CHAMPION if CHAMPION in version.aliases else CHALLENGER,
        checkpoint=version.checkpoint,
        verdict=version.tags[VERDICT],
    )


def _check_verdict(name: str, checkpoint: Stored[Checkpoint], verdict: Stored[Verdict]) -> None:
    """What speaks against a promotion whatever the registry holds."""
    if not name or set(name) & set(UNNAMEABLE):
        marks = " ".join(UNNAMEABLE)
        raise ConfigError(f"{name!r} cannot name a model: it must not be empty nor hold any of {marks} . Rename it.")
    facts = verdict.facts
    if not facts.passed:
        failed = ", ".join(rule.name for rule in facts.rules if not rule.passed)
        raise MismatchError(f"The verdict on {facts.candidate[:12]} did not pass ({failed}). Nothing was promoted.")
    if facts.candidate != checkpoint.digest or facts.model != name:
        raise MismatchError(
            f"The verdict is about {facts.model} {facts.candidate[:12]}, not {name} {checkpoint.digest[:12]}. "
            "Run the gate on this checkpoint."
        )


def check_standing(model: Model, verdict: Stored[Verdict], reason: str) -> None:
    """What speaks against a promotion as the registry stands.

    Raises:
        MismatchError: Somebody has taken it back or rejected it, or has promoted another in between.
    """
    candidate = verdict.facts.candidate
    rejected = (v.tags.get(REJECTED, "") for v in model.versions if v.tags.get(VERDICT) == verdict.digest)
    refusals = {"rolled back": taken_back(model, candidate), "rejected": next(filter(None, rejected), "")}
    for word, told in refusals.items():
        if told and not reason:
            raise MismatchError(
                f"{model.name} {candidate[:12]} was {word} ({told}). Promote another, or say why it may come back: "
                f"headrace models promote {model.name}/NUMBER --reason."
            )
    check_beaten(model, candidate, verdict.facts.champion or "")


def check_beaten(model: Model, candidate: str, held: str) -> None:
    """Refuse a verdict against another version than the one to beat.

    Args:
        model: As it stands.
        candidate: Digest of the candidate's checkpoint.
        held: Digest of the checkpoint that the verdict was held against; empty for none.

    Raises:
        MismatchError: Another is to be beaten by now; the message says since when and by whom.
    """
    beaten = to_beat(model, candidate)
    now = beaten.checkpoint if beaten else ""
    if now == held:
        return
    since = ""
    if beaten is not None and PROMOTED_AT in beaten.tags:
        by = beaten.tags.get(PROMOTED_BY, "somebody")
        since = f": version {beaten.number}, promoted by {by} at {beaten.tags[PROMOTED_AT]}"
    raise MismatchError(
        f"The verdict was given with champion {held[:12] or 'none'}, and {model.name} has {now[:12] or 'none'}{since}. "
        "Run the gate again."
    )
