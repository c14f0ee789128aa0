"""Registered versions with the evidence they were promoted on, as the registry has them."""

import json
from dataclasses import dataclass

from headrace import registry
from headrace.artifacts import Verdict
from headrace.config import decode
from headrace.errors import ConfigError
from headrace.registry import Version


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """A version, and why it was promoted."""

    version: Version
    verdict: Verdict | None
    """None where the version carries no evidence that can be read."""

    @property
    def promoted_at(self) -> str:
        """When it became champion, ISO 8601 in UTC; empty where it never did."""
        return self.version.tags.get(registry.PROMOTED_AT, "")

    @property
    def promoted_by(self) -> str:
        """Who made it champion; empty where nobody did."""
        return self.version.tags.get(registry.PROMOTED_BY, "")

    @property
    def rejected(self) -> str:
        """When it was rejected, by whom and why; empty where it was not."""
        return self.version.tags.get(registry.REJECTED, "")

    @property
    def rolled_back(self) -> str:
        """When it was taken back, by whom and why; empty where it was not."""
        return self.version.tags.get(registry.ROLLED_BACK, "")

    @property
    def verdict_digest(self) -> str:
        """Digest of the verdict that allowed it."""
        return self.version.tags.get(registry.VERDICT, "")

    @property
    def replaced(self) -> str:
        """Number of the version it replaced; empty where there was none."""
        return self.version.tags.get(registry.REPLACED, "")


def models() -> list[str]:
    """Names of all registered models.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    return registry.names()


def releases(model: str) -> list[Release]:
    """Every version of a model, newest first."""
    return [Release(version=version, verdict=_verdict(version)) for version in reversed(registry.versions(model))]


def served(of: list[Release]) -> int:
    """Index of the champion; of the newest where there is none."""
    return next((at for at, release in enumerate(of) if registry.CHAMPION in release.version.aliases), 0)


def _verdict(version: Version) -> Verdict | None:
    try:
        return decode(Verdict, json.loads(version.tags[registry.EVIDENCE]))
    except (KeyError, ValueError, ConfigError):
        return None
