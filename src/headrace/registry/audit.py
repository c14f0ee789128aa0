"""The trail read out: every entry, and whether MLflow says the same."""

from dataclasses import dataclass

from headrace.errors import ConfigError
from headrace.registry.alignment import differences
from headrace.registry.entry import Entry
from headrace.registry.versions import known


@dataclass(frozen=True, kw_only=True, slots=True)
class Audit:
    """A trail whose chain holds."""

    entries: tuple[Entry, ...]
    head: str
    """Number and digest of the last entry."""
    differences: tuple[str, ...]
    """What MLflow's own aliases and tags say otherwise, a sentence each."""


def audit(name: str) -> Audit:
    """Verify a model's trail and hold MLflow's aliases and tags against it.

    Raises:
        ConfigError: The model is unknown, or has no trail.
        IntegrityError: The trail is broken; the message says where.
    """
    trail = known(name).trail
    if trail is None:
        raise ConfigError(f"{name} has no audit trail: something else than headrace registered it.")
    told = tuple(difference.told for difference in differences(name))
    return Audit(entries=trail.entries, head=trail.head, differences=told)
