"""Weights and moments over the devices that XLA drives from one process.

Tensors stay whole to the program; each is annotated with how to cut it, and XLA derives the communication. Over
`data` weights are cut as FSDP cuts them, over `tensor` the matrices of a layer as tensor parallelism does.

Source: Xu et al. 2021, GSPMD, arXiv:2105.04663.
"""

from typing import TypeVar

import torch
from torch import nn

from headrace.devices import XlaMesh

M = TypeVar("M", bound=nn.Module)

READING = ("qkv.weight", "ff_in.weight")
"""Matrices cut by output; those that write to the residual stream are cut by input."""


def spread_weights(model: M, mesh: XlaMesh) -> M:
    """Cut weights, in place."""
    for name, weight in model.named_parameters():
        mesh.spread(weight, *axes_of(name, weight.ndim))
    return model


def spread_moments(model: nn.Module, optimizer: torch.optim.Optimizer, mesh: XlaMesh) -> None:
    """Cut an optimizer's memory like the weights.

    Where there is none yet it becomes zeros: were it made by the first step, the second would be another graph.
    """
    for name, weight in model.named_parameters():
        state = optimizer.state[weight]
        state.setdefault("step", torch.zeros(()))
        for moment in ("exp_avg", "exp_avg_sq"):
            if moment not in state:
                state[moment] = torch.zeros(weight.shape).to(weight.device)
            mesh.spread(state[moment], *axes_of(name, weight.ndim))


def axes_of(name: str, dimensions: int) -> tuple[str | None, ...]:
    """The axis each dimension of a weight is cut over."""
    if dimensions == 1:
        return ("data",)
    if name.endswith(READING):
        return "tensor", "data"
    return "data", "tensor" if name.startswith("layers.") else None
