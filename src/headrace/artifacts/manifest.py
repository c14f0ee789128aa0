"""The seal of an artifact: every file with its size and SHA-256, the facts of its kind, and its parents."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from headrace.artifacts.data import Corpus, DataSummary, Exclusions, Signatures, Tokenizer, TokenShards
from headrace.artifacts.evaluation import EvalReport, Verdict
from headrace.artifacts.files import MANIFEST
from headrace.artifacts.release import Endpoint, ModelVersion
from headrace.artifacts.training import Checkpoint, ResumeCertificate
from headrace.config import decode, encode
from headrace.errors import ConfigError, IntegrityError

KINDS: dict[str, type[Any]] = {
    cls.kind: cls
    for cls in (
        Corpus,
        Tokenizer,
        Signatures,
        Exclusions,
        TokenShards,
        DataSummary,
        Checkpoint,
        ResumeCertificate,
        EvalReport,
        Verdict,
        ModelVersion,
        Endpoint,
    )
}
"""What a manifest may seal, by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FileEntry:
    """Size and SHA-256 of one file."""

    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """The seal of an artifact: its facts, its files and its parents."""

    facts: Any
    """One of the dataclasses of `KINDS`."""
    files: dict[str, FileEntry]
    """By path relative to the directory, manifest left out."""
    parents: dict[str, str] = field(default_factory=dict)
    """Digests of the artifacts it was made from, by role."""

    @property
    def digest(self) -> str:
        """SHA-256 over the canonical manifest: the identity of the artifact."""
        return hashlib.sha256(_canonical(self._values()).encode()).hexdigest()

    def to_json(self) -> str:
        """Serialise with the digest, so that a manifest vouches for itself as it does for its files."""
        return _canonical({**self._values(), "digest": self.digest})

    def _values(self) -> dict[str, Any]:
        return {
            "kind": type(self.facts).kind,
            "facts": encode(self.facts),
            "files": encode(self.files),
            "parents": dict(self.parents),
        }

    @classmethod
    def from_json(cls, text: str | bytes, where: str) -> "Manifest":
        """Parse what `to_json` wrote, to the last byte.

        Raises:
            IntegrityError: `text` is not a manifest, or altered, or of a kind this release does not know.
        """
        try:
            values: Mapping[str, Any] = json.loads(text)
            facts = KINDS[values["kind"]]
            made = cls(
                facts=decode(facts, values["facts"]),
                files={_inside(name): decode(FileEntry, entry) for name, entry in values["files"].items()},
                parents=dict(values["parents"]),
            )
        except (ConfigError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError(f"{where}/{MANIFEST} is no manifest ({error!r}). Make the artifact again.") from error
        if made.to_json().encode() != (text.encode() if isinstance(text, str) else text):
            raise IntegrityError(f"{where}/{MANIFEST} is altered: it is not what it was sealed as. Make it again.")
        return made


def _canonical(values: Mapping[str, Any]) -> str:
    """JSON with sorted keys, so that equal values are equal bytes."""
    return json.dumps(values, sort_keys=True, indent=1) + "\n"


def _inside(name: str) -> str:
    """Refuse a file name that leads out of the artifact: manifests may come from anybody's bucket."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{name} lies outside")
    return name


def summary(facts: Any) -> dict[str, str | int | float | bool]:
    """The scalar facts alone, for KFP metadata and MLflow tags."""
    values = {f.name: getattr(facts, f.name) for f in dataclasses.fields(facts)}
    return {name: value for name, value in values.items() if isinstance(value, (str, int, float, bool))}
