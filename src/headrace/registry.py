"""The MLflow model registry: versions that carry their evidence, and the aliases that move.

`champion` is what is served, `previous` what it replaced. Every write that could be interrupted leaves
the registry as it was or as it should be: a version and all its tags exist before the alias moves, and
the alias `champion` is the last thing written. A checkpoint that is champion already stays the version it
is, with the evidence it was first promoted on, whatever other verdicts pass it later.
"""

import json
import shutil
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import storage
from headrace.artifacts import Checkpoint, Manifest, ModelVersion, Verdict
from headrace.config import encode, nearest
from headrace.errors import ConfigError, IntegrityError, MismatchError
from headrace.mlflow_server import client, told_plainly
from headrace.storage import Stored

CHAMPION, PREVIOUS = "champion", "previous"
CHECKPOINT, VERDICT, EVIDENCE = "headrace.checkpoint", "headrace.verdict", "headrace.evidence"
REPLACED, PROMOTED_AT, ROLLED_BACK = "headrace.replaced", "headrace.promoted_at", "headrace.rolled_back"
FOLDER, VERDICT_FOLDER = "checkpoint", "verdict"
"""Where a registered checkpoint and its verdict lie among its run's artifacts."""
UNNAMEABLE = "/:@'"
"""What a reference to a version, or MLflow's search for one, would take for its own."""
TAG_CHARACTERS = 100_000
"""Longest value MLflow takes for a version's tag."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Version:
    """One registered version as the registry has it."""

    name: str
    number: int
    aliases: tuple[str, ...]
    tags: dict[str, str]
    run_id: str
    created_ms: int

    @property
    def checkpoint(self) -> str:
        """Digest of its checkpoint."""
        return self.tags.get(CHECKPOINT, "")

    @property
    def uri(self) -> str:
        """`models:/NAME/N`."""
        return f"models:/{self.name}/{self.number}"


def names() -> list[str]:
    """All registered model names, sorted."""
    found: list[str] = []
    token: str | None = None
    while token is None or token:
        page = client().search_registered_models(max_results=1000, page_token=token)
        found, token = found + [model.name for model in page], page.token or ""
    return sorted(found)


def versions(name: str) -> list[Version]:
    """Every version of a model, oldest first.

    Raises:
        ConfigError: No model of that name is registered.
    """
    aliases = _aliases(name)
    found = client().search_model_versions(f"name = '{name}'", max_results=10_000)
    return sorted((_version(entry, aliases) for entry in found), key=lambda version: version.number)


def _aliases(name: str) -> dict[str, int]:
    if name not in names():
        raise ConfigError(f"No model {name!r} is registered. {nearest(name, names())}")
    return {alias: int(number) for alias, number in client().get_registered_model(name).aliases.items()}


def _version(entry: Any, aliases: dict[str, int]) -> Version:
    number = int(entry.version)
    return Version(
        name=entry.name,
        number=number,
        aliases=tuple(sorted(alias for alias, at in aliases.items() if at == number)),
        tags=dict(entry.tags),
        run_id=entry.run_id or "",
        created_ms=int(entry.creation_timestamp),
    )


def resolve(reference: str) -> Version:
    """Find the version that `NAME@alias` or `NAME/N` means.

    Raises:
        ConfigError: The form, name, alias or number is unknown; the message names the nearest.
    """
    name, at, alias = reference.removeprefix("models:/").partition("@")
    if at:
        aliases = _aliases(name)
        if alias not in aliases:
            raise ConfigError(f"{name} has no alias {alias!r}. {nearest(alias, aliases)}")
        return _numbered(name, aliases[alias])
    name, slash, number = name.partition("/")
    if not slash or not number.isdecimal():
        raise ConfigError(f"{reference!r} names no version. Write NAME@alias or NAME/NUMBER.")
    return _numbered(name, int(number))


def _numbered(name: str, number: int) -> Version:
    known = {version.number: version for version in versions(name)}
    if number not in known:
        raise ConfigError(f"{name} has no version {number}. Known: {', '.join(map(str, known)) or 'none'}.")
    return known[number]


def champion(name: str) -> Version | None:
    """The version served now; None where nothing was ever promoted."""
    if name not in names():
        return None
    return next((version for version in versions(name) if CHAMPION in version.aliases), None)


def incumbent(name: str, candidate: str) -> Version | None:
    """The version that a candidate must beat: the champion, or what the champion replaced if it is the candidate.

    The same question thus has the same answer before and after the candidate's own promotion.

    Args:
        name: The registered model.
        candidate: Digest of the candidate's checkpoint.
    """
    now = champion(name)
    return _replaced_by(now) if now is not None and now.checkpoint == candidate else now


def _replaced_by(version: Version) -> Version | None:
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
    _create_model(name)
    version = champion(name)
    if version is None or version.checkpoint != checkpoint.digest:
        version = _find(name, checkpoint.digest, verdict.digest) or _register(name, checkpoint, verdict, run_id)
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


def _create_model(name: str) -> None:
    from mlflow.exceptions import MlflowException

    if name not in names():
        try:
            client().create_registered_model(name)
        except MlflowException:
            if name not in names():  # nobody else created it in between
                raise


def _find(name: str, checkpoint: str, verdict: str) -> Version | None:
    """The version that an interrupted promotion on the same verdict has left."""
    known = (version for version in versions(name) if version.checkpoint == checkpoint)
    return next((version for version in known if version.tags.get(VERDICT) == verdict), None)


def _register(name: str, checkpoint: Stored[Checkpoint], verdict: Stored[Verdict], run_id: str) -> Version:
    """Copy the files to the run, then create the version with everything it is known by at once."""
    client().log_artifacts(run_id, str(checkpoint.path), FOLDER)
    client().log_artifacts(run_id, str(verdict.path), VERDICT_FOLDER)
    source = f"{client().get_run(run_id).info.artifact_uri}/{FOLDER}"
    tags = {CHECKPOINT: checkpoint.digest, VERDICT: verdict.digest, EVIDENCE: _evidence(verdict.facts)}
    made = client().create_model_version(name, source, run_id, tags=tags)
    return _numbered(name, int(made.version))


def _evidence(verdict: Verdict) -> str:
    """The verdict as JSON, cut to what a tag can hold; the whole of it lies beside the checkpoint."""
    values = encode(verdict)
    text = json.dumps(values)
    if len(text) > TAG_CHARACTERS:
        brief = [{**rule, "reason": rule["reason"][:500], "numbers": {}} for rule in values["rules"]]
        text = json.dumps({**values, "rules": brief})
    while len(text) > TAG_CHARACTERS:
        brief = brief[: len(brief) // 2]
        text = json.dumps({**values, "rules": brief})
    return text


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
    elif alias in _aliases(name):
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
    restored = _replaced_by(taken)
    _point(name, PREVIOUS, _replaced_by(restored) if restored else None)
    _point(name, CHAMPION, restored)
    return taken, _numbered(name, restored.number) if restored else None


def fetch(version: Version) -> Path:
    """Bring a version's checkpoint to this machine and verify every file of it.

    Files that lie on this machine already are read where they lie; others are kept in the cache.

    Raises:
        IntegrityError: The files are not the ones that were registered.
    """
    source = client().get_model_version_download_uri(version.name, str(version.number))
    if urllib.parse.urlsplit(source).scheme not in ("", "file"):
        return storage.cached(version.checkpoint, lambda path: _download(source, path), version.uri)
    stored = storage.read(urllib.parse.unquote(urllib.parse.urlsplit(source).path), Checkpoint)
    if stored.digest != version.checkpoint:
        raise IntegrityError(
            f"{version.uri} holds checkpoint {stored.digest[:12]}, and {version.checkpoint[:12]} was registered. "
            "Promote it again."
        )
    return stored.path


def _download(source: str, directory: Path) -> None:
    import mlflow

    with told_plainly():
        arrived = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(directory)))
    if arrived != directory:
        for path in list(arrived.iterdir()):
            path.rename(directory / path.name)
        arrived.rmdir()


def confirm_verdict(verdict: Verdict) -> None:
    """Check that nobody has rolled back what a passing verdict allows.

    Raises:
        IntegrityError: Its candidate was taken back from serving since.
    """
    if verdict.passed and was_rolled_back(verdict.model, verdict.candidate):
        raise IntegrityError(f"{verdict.model} {verdict.candidate[:12]} was rolled back since its verdict.")


def confirm_version(facts: ModelVersion) -> None:
    """Check that a promoted version still exists and still has its alias.

    Raises:
        IntegrityError: The alias points elsewhere, or the version is gone.
    """
    now = champion(facts.name)
    if now is None or now.number != facts.version or now.checkpoint != facts.checkpoint:
        raise IntegrityError(f"{facts.name}@{facts.alias} is no longer version {facts.version}.")


def confirm_incumbent(name: str, candidate: str, measured: str) -> None:
    """Check that the version to beat is still the one that was measured.

    Args:
        name: The registered model.
        candidate: Digest of the candidate.
        measured: Digest of the checkpoint measured as incumbent; empty where there was none.

    Raises:
        IntegrityError: There is another incumbent by now.
    """
    now = incumbent(name, candidate)
    if (now.checkpoint if now else "") != measured:
        raise IntegrityError(f"The version of {name} to beat is another one by now.")


def copy_checkpoint(reference: str, output_uri: str | Path) -> Manifest:
    """Copy a registered version or a stored checkpoint, verified, digest and all.

    Args:
        reference: `NAME@alias`, `NAME/NUMBER`, a directory or `gs://bucket/prefix`.
        output_uri: Where the copy goes.

    Raises:
        ConfigError: The reference names no version.
        IntegrityError: The files are not the ones recorded.
    """
    stands = storage.exists(reference)
    stored = storage.read(reference if stands else fetch(resolve(reference)), Checkpoint)
    with storage.writing(output_uri) as tree:
        for name in stored.manifest.files:  # and nothing else that may lie beside them
            (tree.path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(stored.path / name, tree.path / name)
        return tree.commit(stored.facts, stored.manifest.parents)
