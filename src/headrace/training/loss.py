"""Cross entropy and z-loss, summed over the scored positions alone.

Logits are the largest thing in training: one number for each position and row of the vocabulary. Here
they exist for one block of scored positions at a time. The block's gradient is taken while it is at
hand, so the logits are neither kept for the backward pass nor computed again in it.

Source: the z-loss is that of mesh_transformer/layers.py of mesh-transformer-jax.

Letters: B rows, T positions, N = B * T, S scored positions of one block, D model width, V vocabulary.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from headrace.data.batch import UNSCORED

BLOCK_LOGITS = 2**22
"""Logits alive at one time: few enough for a processor's cache, and enough to keep it busy."""


@dataclass(frozen=True, slots=True)
class SummedLoss:
    """Sums, not means: the step divides by the labels of all its microbatches together."""

    objective: Tensor
    """What is minimised, cross entropy plus z-loss: scalar, fp32, to be differentiated."""
    cross_entropy: Tensor
    """Scalar in nats, fp32, detached."""


def summed_loss(head: nn.Linear, hidden_BTD: Tensor, labels_BT: Tensor, z_loss: float = 0.0) -> SummedLoss:
    """Score the positions that have a label.

    Args:
        head: Turns hidden states into logits.
        hidden_BTD: What `GPTJ.hidden` returned, fp32 or bf16; the products run in the dtype of autocast.
        labels_BT: Next tokens, int64; `UNSCORED` where there is nothing to predict.
        z_loss: Weight of logsumexp(logits)², which keeps the logits' scale from drifting.
    """
    labels_N = labels_BT.flatten()
    scored = _projected(labels_N)
    device = hidden_BTD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else head.weight.dtype
    objective, cross_entropy = _HeadLoss.apply(
        hidden_BTD.flatten(0, 1).to(dtype), head.weight.to(dtype), head.bias.to(dtype), labels_N, scored, z_loss
    )
    return SummedLoss(objective, cross_entropy)


def _projected(labels_N: Tensor) -> Tensor:
    """Positions to compute logits of: the scored ones.

    On XLA, which would compile anew for each number of them, all; those without a label then count for nothing.
    """
    if labels_N.device.type == "xla":
        return torch.arange(len(labels_N), device=labels_N.device)
    return (labels_N != UNSCORED).nonzero().squeeze(1)


def _block_logits(scored: Tensor) -> int:
    """Logits alive at one time: XLA compiles every block by itself, and is given few."""
    return BLOCK_LOGITS * (64 if scored.device.type == "xla" else 1)


class _HeadLoss(torch.autograd.Function):
    """The head and its loss as one operation, which knows its own gradient."""

    @staticmethod
    def forward(
        ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, bias_V: Tensor, labels_N: Tensor, scored: Tensor, z_loss: float
    ) -> tuple[Tensor, Tensor]:
        totals = torch.zeros(2, device=hidden_ND.device)
        to_hidden_ND = torch.zeros_like(hidden_ND)
        to_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32)
        to_bias_V = torch.zeros_like(bias_V, dtype=torch.float32)
        with torch.autocast(hidden_ND.device.type, enabled=False):
            for block in scored.split(max(1, _block_logits(scored) // len(bias_V))):
                hidden_SD = hidden_ND[block]
                logits_SV = torch.addmm(bias_V, hidden_SD, weight_VD.T).float()
                totals += _differentiate_(logits_SV, labels_N[block], z_loss)
                to_logits_SV = logits_SV.to(hidden_ND.dtype)
                to_hidden_ND[block] = to_logits_SV @ weight_VD
                to_weight_VD += to_logits_SV.T @ hidden_SD
                to_bias_V += logits_SV.sum(0)
        ctx.save_for_backward(to_hidden_ND, to_weight_VD, to_bias_V)
        objective, cross_entropy = totals
        ctx.mark_non_differentiable(cross_entropy)
        return objective, cross_entropy

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        gradients = (gradient * outer[0] for gradient in ctx.saved_tensors)
        return (*gradients, None, None, None)


def _differentiate_(logits_SV: Tensor, labels_S: Tensor, z_loss: float) -> Tensor:
    """Overwrite logits with the objective's gradient with respect to them.

    Returns:
        The objective and the cross entropy, each summed over the block.
    """
    # Of a position without a label, whichever label is looked up, sums and gradient are multiplied by 0.
    counted_S1 = (labels_S != UNSCORED)[:, None]
    labels_S1 = labels_S[:, None].clamp(min=0)
    label_logits_S1 = logits_SV.gather(1, labels_S1)
    largest_S1 = logits_SV.amax(1, keepdim=True)
    partition_S1 = logits_SV.sub_(largest_S1).exp_().sum(1, keepdim=True)
    logsumexp_S1 = partition_S1.log() + largest_S1
    cross_entropy = ((logsumexp_S1 - label_logits_S1) * counted_S1).sum()
    logits_SV.mul_((1 + 2 * z_loss * logsumexp_S1) / partition_S1 * counted_S1)
    logits_SV.scatter_add_(1, labels_S1, -counted_S1.to(logits_SV.dtype))
    return torch.stack((cross_entropy + z_loss * (logsumexp_S1.square() * counted_S1).sum(), cross_entropy))
