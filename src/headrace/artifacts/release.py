"""Facts about what was registered and what was served."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelVersion:
    """A registered version and the evidence it was promoted on."""

    kind: ClassVar[str] = "model_version"

    name: str
    version: int
    alias: str
    """The alias that was moved to this version: `champion`, or `challenger` where it waits for approval."""
    checkpoint: str
    """Digest of the checkpoint registered."""
    verdict: str
    """Digest of the verdict that allowed it."""

    @property
    def uri(self) -> str:
        """`models:/NAME/N`, as MLflow writes it."""
        return f"models:/{self.name}/{self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """A served version and what it answered when it was first asked."""

    kind: ClassVar[str] = "endpoint"

    model: str
    """`models:/NAME/N` of the version served; the name alone where a candidate was rehearsed."""
    checkpoint: str
    """Digest of its checkpoint."""
    url: str
    """Where it answered."""
    answers: dict[str, str]
    """Prompt to completion, of the probes sent."""
    ready_seconds: float
    latency_ms: float
    """Median over the probes, first byte to last."""
