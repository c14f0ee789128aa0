"""One act upon a model, as its audit trail keeps it."""

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from headrace.config import encode

Action = Literal["propose", "promote", "approve", "reject", "rollback"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One act upon a model."""

    model: str
    number: int
    """Counts from 1."""
    before: str
    """Digest of the entry before; empty for the first."""
    at: str
    """ISO 8601 in UTC."""
    who: str
    known_by: str
    """What vouches for `who`."""
    action: Action
    version: int
    """The version acted upon."""
    checkpoint: str
    """Digest of its checkpoint."""
    verdict: str
    """Digest of the verdict it was acted on: the evidence."""
    champion: str
    """Digest of the checkpoint that the verdict was held against; empty where there was none."""
    reason: str
    aliases: dict[str, int]
    """Where `challenger`, `champion` and `previous` stand from here on."""
    approvers: tuple[str, ...] = ()
    """Who may approve or reject what is proposed."""

    @property
    def text(self) -> str:
        """As it is kept."""
        return json.dumps(encode(self), sort_keys=True)

    @property
    def digest(self) -> str:
        """SHA-256 of `text`."""
        return hashlib.sha256(self.text.encode()).hexdigest()
