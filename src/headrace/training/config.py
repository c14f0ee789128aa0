"""Everything that decides what a training run computes, and nothing about where it runs."""

from dataclasses import dataclass, field
from typing import Literal

from headrace.artifacts import MaskContract
from headrace.checkpoints import CheckpointPolicy
from headrace.data.loader import LoaderConfig
from headrace.errors import ConfigError
from headrace.models.gptj import GPTJConfig
from headrace.training.averaging import AveragingConfig
from headrace.training.guard import GuardConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.schedule import ScheduleConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run, from scratch or from another checkpoint's weights.

    Raises:
        ConfigError: Counts below 1, microbatches that do not make up a step, or rows longer than the model reads.
    """

    model: GPTJConfig
    data: LoaderConfig
    mask: MaskContract = "causal"
    """Whether a prompt is seen whole or causally; recorded in the checkpoint and kept by whoever uses it."""
    steps: int
    """Optimizer steps to take."""
    microbatch_rows: int
    """Rows of one forward pass; lower it when memory runs out, the step stays the same."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    z_loss: float = 1e-4
    """Weight of logsumexp(logits)² beside the cross entropy."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Which steps are skipped rather than taken; none by default, where the first that should be ends the run."""
    averaging: AveragingConfig = field(default_factory=AveragingConfig)
    """How several processes stay together: by every gradient, or, over slow links, by averages now and then."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of products and activations; weights, their gradients and the optimizer's moments are always fp32. With fp16 the
    loss is scaled up, that small gradients survive."""
    checkpoint_every_steps: int = 100
    """Steps lost at most when a run is killed."""
    checkpoints: CheckpointPolicy = field(default_factory=CheckpointPolicy)
    """Which of them are kept."""
    log_every_steps: int = 10
    """Steps between two points of a metric."""
    seed: int = 0
    """Of the initial weights; the data has a seed of its own."""

    def __post_init__(self) -> None:
        for name in ("steps", "microbatch_rows", "checkpoint_every_steps", "log_every_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is below 1. Set train.{name} to at least 1.")
        for name in ("z_loss", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name}={getattr(self, name)} is below 0. Set train.{name} to at least 0.")
        if self.guard.skips >= self.steps:
            raise ConfigError(
                f"guard.skips={self.guard.skips:,} lets all of steps={self.steps:,} be skipped. "
                "Set train.guard.skips lower."
            )
        if self.data.rows % self.microbatch_rows:
            raise ConfigError(
                f"microbatch_rows={self.microbatch_rows} does not divide rows={self.data.rows}. "
                "Set train.microbatch_rows to a divisor of train.data.rows."
            )
        if self.data.context_tokens > self.model.context_tokens:
            raise ConfigError(
                f"data.context_tokens={self.data.context_tokens:,} exceeds model.context_tokens="
                f"{self.model.context_tokens:,}. Shorten the rows or lengthen the model's context."
            )
