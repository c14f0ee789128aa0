"""AdamW as GPT-J and GPT-JT used it: matrices decay, norms and biases do not.

A matrix is any parameter of two dimensions or more. That includes the embedding and the head, as in
both published runs; the rows of ids that never occur therefore shrink towards zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headrace.errors import ConfigError, MismatchError
from headrace.training.sharding import by_mesh, part

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimizerConfig:
    """AdamW's constants; its learning rate comes from the schedule, step by step.

    Raises:
        ConfigError: A beta outside [0, 1), or a constant that must not be negative or zero.
    """

    beta1: float = 0.9
    """Share of the running mean of gradients kept per step."""
    beta2: float = 0.999
    """Share of the running mean of squared gradients kept per step."""
    eps: float = 1e-8
    """Added to the root of the squared gradients' mean."""
    weight_decay: float = 0.1
    """Share of a matrix taken away per step, times the learning rate."""
    max_grad_norm: float = 1.0
    """Gradients are scaled down to this norm, taken over all parameters at once."""

    def __post_init__(self) -> None:
        for name, beta in (("beta1", self.beta1), ("beta2", self.beta2)):
            if not 0 <= beta < 1:
                raise ConfigError(f"{name}={beta} is no share kept per step. Set it between 0 and 1.")
        if self.eps <= 0 or self.max_grad_norm <= 0 or self.weight_decay < 0:
            raise ConfigError(
                f"eps={self.eps}, max_grad_norm={self.max_grad_norm} and weight_decay={self.weight_decay} "
                "need to be above 0, above 0, and at least 0."
            )


def gptj() -> OptimizerConfig:
    """GPT-J's constants.

    Source: `6B_roto_256.json` and `device_train.py` of mesh-transformer-jax.
    """
    return OptimizerConfig(beta1=0.9, beta2=0.999, eps=1e-8, weight_decay=0.1, max_grad_norm=1.0)


def gptjt() -> OptimizerConfig:
    """GPT-JT's constants.

    Source: the AdamW of the decentralized training of GPT-JT.
    """
    return OptimizerConfig(beta1=0.9, beta2=0.999, eps=1e-6, weight_decay=0.01, max_grad_norm=1.0)


def build(model: nn.Module, config: OptimizerConfig, *, fused: bool = True) -> torch.optim.AdamW:
    """AdamW over `model`: one group of matrices, which decay, and one of vectors, which do not.

    Args:
        model: Whose weights to move.
        config: The constants.
        fused: One pass over each parameter instead of about ten, where the device can.
    """
    groups: list[dict[str, Any]] = []
    for parameters in by_mesh(model.parameters()):
        matrices = [p for p in parameters if p.ndim >= 2]
        vectors = [p for p in parameters if p.ndim < 2]
        groups += [
            {"params": matrices, "weight_decay": config.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ]
    return torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), eps=config.eps, fused=fused)


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Use `learning_rate` from the next step on, in every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's memory by `parameter/moment`, for safetensors; empty before the first step."""
    return {
        f"{name}/{moment}": optimizer.state[parameter][moment]
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment in (*MOMENTS, "step")
    }


def load_moments(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Give the optimizer the memory that `moments` returned.

    Raises:
        MismatchError: A parameter of the model has no moments among `tensors`.
    """
    for name, parameter in model.named_parameters():
        if f"{name}/step" not in tensors:
            raise MismatchError(f"{name} has no optimizer moments to resume from. Initialize from the weights instead.")
        state = {key: part(name, tensors[f"{name}/{key}"], parameter) for key in MOMENTS}
        optimizer.state[parameter] = state | {"step": tensors[f"{name}/step"].clone()}
