"""What a gate is shown besides reports of scores."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace import storage
from headrace.artifacts import Checkpoint, DataSummary, Endpoint, ResumeCertificate
from headrace.storage import Stored

KINDS: Mapping[str, Any] = {
    "checkpoint": Checkpoint,
    "endpoint": Endpoint,
    "data": DataSummary,
    "certificate": ResumeCertificate,
}
"""What lies under each role; of `data` there may be several, as `data_0`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """Sealed artifacts by role; a condition whose evidence is missing fails."""

    checkpoint: Stored[Checkpoint] | None = None
    """The candidate itself."""
    endpoint: Stored[Endpoint] | None = None
    """What its rehearsal recorded."""
    data: tuple[Stored[DataSummary], ...] = ()
    """Reports on the data that it and its ancestors were trained on."""
    certificate: Stored[ResumeCertificate] | None = None


NOTHING = Evidence()


def read_evidence(uris: Mapping[str, str | Path]) -> dict[str, Stored[Any]]:
    """Read and verify evidence by role.

    Raises:
        IntegrityError: An artifact is missing or altered.
        MismatchError: One is of another kind than its role.
    """
    return {role: storage.read(uri, KINDS[_kind(role)]) for role, uri in uris.items()}


def as_evidence(given: Mapping[str, Stored[Any]]) -> Evidence:
    """What was read, with all reports on data together."""
    data = tuple(stored for role, stored in given.items() if _kind(role) == "data")
    return Evidence(**{role: stored for role, stored in given.items() if _kind(role) != "data"}, data=data)


def _kind(role: str) -> str:
    return role.partition("_")[0]
