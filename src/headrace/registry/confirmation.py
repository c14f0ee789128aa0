"""Whether what was once recorded about the registry still holds, for whoever would answer from a cache."""

from headrace import storage
from headrace.artifacts import ModelVersion, Verdict
from headrace.errors import IntegrityError
from headrace.registry.succession import incumbent, was_rolled_back
from headrace.registry.versions import look, resolve


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
    model = look(facts.name)
    now = model.aliased(facts.alias) if model else None
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


def confirm_reference(reference: str, fetched: str) -> None:
    """Check that a reference still names the checkpoint that was once fetched by it.

    Args:
        reference: `NAME@alias`, `NAME/NUMBER`, a directory or `gs://bucket/prefix`.
        fetched: Digest of what it named.

    Raises:
        ConfigError: It names nothing any more.
        IntegrityError: It names another checkpoint by now.
    """
    now = storage.read_manifest(reference).digest if storage.exists(reference) else resolve(reference).checkpoint
    if now != fetched:
        raise IntegrityError(f"{reference} is another checkpoint by now.")
