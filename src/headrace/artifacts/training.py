"""Facts about weights, and about runs that were killed to see whether they come back."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

MaskContract = Literal["causal", "prefix"]
"""How a model sees its prompt: each token what came before it, or the whole prompt at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checkpoint:
    """Weights as safetensors, the tokenizer, and how they came to be."""

    kind: ClassVar[str] = "checkpoint"

    step: int
    """Optimizer steps taken."""
    tokens_seen: int
    """Positions trained on, padding left out."""
    labels_seen: int
    """Positions scored by the loss."""
    model: dict[str, Any]
    """The encoded `GPTJConfig`."""
    tokenizer: str
    """Fingerprint of the tokenizer whose ids the embedding rows stand for."""
    mask: MaskContract
    """The mask it was trained under, and must be evaluated and served under."""
    config: dict[str, Any]
    """The encoded `TrainConfig` that made it."""
    loss: float | None
    """Mean training loss over the last steps, nats a label; None for weights that were trained elsewhere."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeCertificate:
    """What a killed and resumed run came to beside one that nobody disturbed; `config.json` lies beside."""

    kind: ClassVar[str] = "resume_certificate"

    recipe: str
    stage: str
    """The recipe's section that was run."""
    config: str
    """SHA-256 of the shortened `TrainConfig`, encoded."""
    code: str
    """Release, and a digest over the library's text."""
    torch: str
    device: str
    processes: int = 1
    """That took every step together."""
    steps: int
    killed_at: tuple[int, ...]
    """The step taken last before each kill."""
    digests: dict[str, str]
    """SHA-256 of everything compared, of the undisturbed run."""
    differences: tuple[str, ...]
    """What was not equal, a sentence each."""
    passed: bool
    """Whether nothing differed."""
