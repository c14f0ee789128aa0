"""What a gate is shown besides reports of scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import storage
from headrace.artifacts import Checkpoint, DataSummary, Endpoint, ResumeCertificate, TokenShards
from headrace.storage import Stored

KINDS: Mapping[str, Any] = {
    "checkpoint": Checkpoint,
    "endpoint": Endpoint,
    "data": DataSummary,
    "certificate": ResumeCertificate,
}
"""What lies under each role; under any other, shards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Sealed artifacts by role; a condition whose evidence is missing fails."""

    checkpoint: Stored[Checkpoint] | None = None
    """The candidate itself."""
    endpoint: Stored[Endpoint] | None = None
    """What its rehearsal recorded."""
    data: Stored[DataSummary] | None = None
    """The report on the data it was trained on."""
    tokens: tuple[Stored[TokenShards], ...] = ()
    """That data."""
    certificate: Stored[ResumeCertificate] | None = None


NOTHING = Evidence()


def read_evidence(uris: Mapping[str, str | Path]) -> dict[str, Stored[Any]]:
    """Read and verify evidence by role.

    Raises:
        IntegrityError: An artifact is missing or altered.
        MismatchError: One is of another kind than its role.
    """
    return {role: storage.read(uri, KINDS.get(role, TokenShards)) for role, uri in uris.items()}


def as_evidence(given: Mapping[str, Stored[Any]]) -> Evidence:
    """What was read, with all shards together."""
    tokens = tuple(stored for role, stored in given.items() if role not in KINDS)
    return Evidence(**{role: stored for role, stored in given.items() if role in KINDS}, tokens=tokens)
