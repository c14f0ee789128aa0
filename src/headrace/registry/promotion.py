"""The aliases that move: promotion on a passing verdict, and taking it back.

Every write that could be interrupted leaves the registry as it was or as it should be: a version and all
its tags exist before the alias moves, and the alias `champion` is the last thing written. A checkpoint that
is champion already stays the version it is, with the evidence it was first promoted on, whatever other
verdicts pass it later.
"""

import time

from headrace import storage
from headrace.artifacts import Checkpoint, ModelVersion, Verdict
from headrace.errors import ConfigError, MismatchError
from headrace.mlflow_server import client
from headrace.registry.registration import create_model, find, register
from headrace.registry.succession import incumbent, replaced_by, was_rolled_back
from headrace.registry.versions import (
    CHAMPION,
    PREVIOUS,
    PROMOTED_AT,
    REPLACED,
    ROLLED_BACK,
    VERDICT,
    Version,
    aliases_of,
    champion,
    numbered,
    resolve,
)
from headrace.storage import Stored

UNNAMEABLE = "/:@'"
"""What a reference to a version, or MLflow's search for one, would take for its own."""


def promote(
    name: str,
    checkpoint_uri: str,
    verdict_uri: str,
    *,
    run_id: str,
) -> ModelVersion:
    """Register a checkpoint with its verdict and move `champion` to it; doing it again changes nothing.

    Args:
        name: The registered model.
        checkpoint_uri: A sealed Checkpoint.
        verdict_uri: The sealed Verdict that allows it.
        run_id: The MLflow run that keeps the files.

    Raises:
        ConfigError: `name` cannot name a model.
        MismatchError: The verdict did not pass, or judged another checkpoint or model, or against another
            champion than there is, or the checkpoint was rolled back since.
    """
    checkpoint = storage.read(checkpoint_uri, Checkpoint)
    verdict = storage.read(verdict_uri, Verdict)
    _check_allowed(name, checkpoint, verdict)
    create_model(name)
    version = champion(name)
    if version is None or version.checkpoint != checkpoint.digest:
        version = find(name, checkpoint.digest, verdict.digest) or register(name, checkpoint, verdict, run_id)
        _move(name, version)
    return ModelVersion(
        name=name,
        version=version.number,
        alias=CHAMPION,
        checkpoint=checkpoint.digest,
        verdict=version.tags[VERDICT],
    )


def _check_allowed(name: str, checkpoint: Stored[Checkpoint], verdict: Stored[Verdict]) -> None:
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
    if was_rolled_back(name, checkpoint.digest):
        raise MismatchError(
            f"{name} {checkpoint.digest[:12]} was rolled back. Promote another, or delete its tag {ROLLED_BACK}."
        )
    beaten = incumbent(name, checkpoint.digest)
    if (beaten.checkpoint if beaten else None) != facts.champion:
        held, now = (facts.champion or "none")[:12], beaten.checkpoint[:12] if beaten else "none"
        raise MismatchError(f"The verdict was given with champion {held}, and {name} has {now}. Run the gate again.")


def _move(name: str, version: Version) -> None:
    """Make `version` the champion; that alias moves last, so that a rerun finishes what was interrupted."""
    replaced = champion(name)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    number = str(version.number)
    client().set_model_version_tag(name, number, REPLACED, str(replaced.number) if replaced else "")
    client().set_model_version_tag(name, number, PROMOTED_AT, stamp)
    _point(name, PREVIOUS, replaced)
    _point(name, CHAMPION, version)


def _point(name: str, alias: str, version: Version | None) -> None:
    """Let an alias name a version, or nothing."""
    if version is not None:
        client().set_registered_model_alias(name, alias, str(version.number))
    elif alias in aliases_of(name):
        client().delete_registered_model_alias(name, alias)


def rollback(name: str, reason: str = "") -> tuple[Version, Version | None]:
    """Take the champion back: `champion` returns to the version it replaced.

    What was taken back before is passed over. An interrupted rollback is finished by the next one.

    Returns:
        The version taken back, and the one served now (None: there was none before it).

    Raises:
        ConfigError: The model is unknown or has no champion.
    """
    taken = resolve(f"{name}@{CHAMPION}")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    client().set_model_version_tag(name, str(taken.number), ROLLED_BACK, f"{stamp} {reason}".strip())
    restored = replaced_by(taken)
    _point(name, PREVIOUS, replaced_by(restored) if restored else None)
    _point(name, CHAMPION, restored)
    return taken, numbered(name, restored.number) if restored else None
