"""Data parallelism over slow links: what workers exchange, and how often.

Workers that share every gradient send twice their weights a step. Here each takes steps of its own and they
meet now and then, or send little: ProxSkip-Adam, by which GPT-JT was trained, DiLoCo, and the compressed
averaging of CocktailSGD. All of them are decided by `AveragingConfig` and behind one `Synchronizer`.

torchft 0.2 has DiLoCo, local SGD and a quantized all-reduce, and was tried first. It is not used, because
every collective goes through its Manager, which needs a lighthouse server beside the workers and installs
OpenTelemetry, while `headrace.training` imports with torch, numpy and pydantic alone; its quantization needs
Triton and NCCL, and without Triton `should_quantize=True` sends fp32 and does not say so; and it has neither ProxSkip
nor sparse messages, nor counts what it sends.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

from headrace.errors import ConfigError


class Synchronizer(Protocol):
    """How one worker's weights move, and what it exchanges with the others meanwhile.

    The step's owner asks `shares_gradients` before it clips, and calls `update` where a lone worker
    would call `optimizer.step()`.
    """

    def shares_gradients(self, step: int) -> bool:
        """Whether the gradients of `step`, from 1, are to be those of all workers' rows together."""

    def update(self, step: int) -> None:
        """Move the weights along their gradients, and exchange what is due after `step`, unless it is skipped."""

    def settle(self, step: int) -> None:
        """Give all workers the weights that the run is to publish; called once, after `step`, the last."""

    def meets(self, step: int) -> bool:
        """Whether workers have the same to give a newcomer after `step`, which was not skipped."""

    def enter(self) -> None:
        """Begin as a newcomer, with all that another worker has: leave what was that one's alone."""

    def state(self) -> dict[str, Tensor]:
        """What continuing needs beside this worker's own weights and moments, by name, for safetensors."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Continue from what `state` returned."""


class Synchronous:
    """Every gradient is shared, so the weights never part."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def shares_gradients(self, step: int) -> bool:
        """Always."""
        return True

    def update(self, step: int) -> None:
        """Take the optimizer's step, which is the same on all workers."""
        self._optimizer.step()

    def settle(self, step: int) -> None:
        """Nothing to do."""

    def meets(self, step: int) -> bool:
        """Always."""
        return True

    def enter(self) -> None:
        """Nothing to do."""

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Nothing to do."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CompressionConfig:
    """Which weights are sent at an exchange, and in how many bits.

    Raises:
        ConfigError: A subset, share or bucket that sends nothing, or bits that do not fill a byte.
    """

    one_in: int = 10
    """An exchange offers one in so many weights, the same ones on every worker; all are offered in turn."""
    top_share: float = 0.2
    """Share of the weights on offer that are sent, those that differ most."""
    bits: Literal[2, 4, 8] = 4
    """Of each difference sent."""
    bucket: int = 128
    """Differences that share a scale, which takes two bytes."""
    stochastic: bool = False
    """Round at random, so that a difference that is sent arrives unbiased; else to the nearest level."""
    outer_learning_rate: float = 1.0
    """Of the step along the mean of what arrived: DiLoCo's outer step, which 1 without momentum leaves out."""
    outer_momentum: float = 0.0
    """Nesterov's, of the same step; it counts a weight's exchanges, of which there is one in `one_in`."""

    def __post_init__(self) -> None:
        for name in ("one_in", "bucket"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)} is below 1. Set compression.{name} to at least 1.")
        if not 0 < self.top_share <= 1:
            raise ConfigError(f"top_share={self.top_share} is no share. Set compression.top_share above 0, up to 1.")
        if self.bits not in (2, 4, 8):
            raise ConfigError(f"bits={self.bits} do not fill bytes. Set compression.bits to 2, 4 or 8.")
        _refuse_outer_step("compression", self.outer_learning_rate, self.outer_momentum)


@dataclass(frozen=True, kw_only=True, slots=True)
class AveragingConfig:
    """How workers stay together; the defaults beside `kind` are the published ones.

    Raises:
        ConfigError: A probability, length or rate that cannot be meant.
    """

    kind: Literal["none", "proxskip", "diloco", "compressed"] = "none"
    """`none` shares every gradient, `proxskip` averages weights at random steps, `diloco` every so many, and
    `compressed` sends the largest differences of some weights every so many. A step that is skipped takes the
    exchange that was due after it along."""
    synchronous_steps: int = 200
    """First steps of a run, which share every gradient whatever the kind."""
    probability: float = 0.02
    """Of an exchange after a step, in `proxskip`; all workers toss the same coin."""
    every_steps: int = 1
    """Steps from one exchange to the next, in `diloco` (published with 500) and `compressed`."""
    outer_learning_rate: float = 0.7
    """Of the Nesterov step along the mean difference, in `diloco`; `compressed` has its own in `compression`."""
    outer_momentum: float = 0.9
    """Of the same step."""
    compression: CompressionConfig = field(default_factory=CompressionConfig)
    """What a message of `compressed` holds."""
    seed: int = 0
    """Of the coin, of the order in which weights are offered, and of random rounding."""

    def __post_init__(self) -> None:
        if not 0 < self.probability <= 1:
            raise ConfigError(f"probability={self.probability} is none. Set averaging.probability above 0, up to 1.")
        if self.every_steps < 1:
            raise ConfigError(f"every_steps={self.every_steps} is below 1. Set averaging.every_steps to at least 1.")
        if self.synchronous_steps < 0 or self.seed < 0:
            raise ConfigError(
                f"synchronous_steps={self.synchronous_steps} and seed={self.seed} need to be at least 0 in averaging."
            )
        if self.kind == "proxskip" and self.synchronous_steps < 1:
            raise ConfigError(
                "synchronous_steps=0 leaves proxskip without the second moments that its later steps divide by. "
                "Set averaging.synchronous_steps to at least 1."
            )
        _refuse_outer_step("averaging", self.outer_learning_rate, self.outer_momentum)


def _refuse_outer_step(section: str, learning_rate: float, momentum: float) -> None:
    if learning_rate <= 0 or not 0 <= momentum < 1:
        raise ConfigError(
            f"outer_learning_rate={learning_rate} needs to be above 0, and outer_momentum={momentum} at least 0 and "
            f"below 1. Set them in {section}."
        )


def gptjt() -> AveragingConfig:
    """GPT-JT's averaging: after 200 synchronous steps, weights meet at one step in fifty.

    Source: `dist_dp_proxskip_adam.py` of https://github.com/DS3Lab/Decentralized_FM_alpha.
    """
    return AveragingConfig(kind="proxskip", probability=0.02, synchronous_steps=200)


def diloco() -> AveragingConfig:
    """DiLoCo as published: 500 inner steps, then Nesterov's; it starts from weights that are trained already.

    Source: Douillard et al. 2023, arXiv:2311.08105.
    """
    return AveragingConfig(kind="diloco", synchronous_steps=0, every_steps=500)


def cocktail() -> AveragingConfig:
    """CocktailSGD's message: of a random tenth of the weights the fifth that differ most, in 4 bits, every step.

    Source: Wang et al. 2023, CocktailSGD: Fine-tuning Foundation Models over 500Mbps Networks.
    """
    return AveragingConfig(kind="compressed", synchronous_steps=0)
