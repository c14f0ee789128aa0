"""The layers of a model in stages: a process holds some of them, and microbatches pass from stage to stage.

A stage reads the same rows as the others of its replica, so that each knows every microbatch's mask and the last one
its labels; what travels is the residual stream forwards and its gradient backwards. With 1F1B a stage keeps the
activations of as many microbatches as there are stages from it to the last.

Source: Narayanan et al. 2021, arXiv:2104.04473; the schedule is that of torch.distributed.pipelining.

Letters: B rows of a microbatch, T positions, D model width.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from headrace.data.batch import TensorBatch
from headrace.models.gptj import GPTJ
from headrace.models.masks import Mask
from headrace.training.loss import SummedLoss
from headrace.training.mesh import check_microbatches, check_stages

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.pipelining import PipelineStage

CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True)
class Objective:
    """What a step computes of each microbatch."""

    mask_of: Callable[[TensorBatch], Mask]
    loss_of: Callable[[Tensor, Tensor], SummedLoss]
    """Of hidden states (B, T, D) and labels (B, T); called on the last stage alone."""
    weight: Tensor
    """What every loss is multiplied by, scalar."""
    autocast: Callable[[], AbstractContextManager[object]]
    """Holds during the forward pass, and the loss."""


def cut_stages(model: GPTJ, stages: "DeviceMesh") -> None:
    """Keep this stage's part of a model, under the names it has in the whole; the mesh has one axis.

    Raises:
        ConfigError: Layers that the stages cannot share evenly.
    """
    layers, stage = model.config.n_layer, stages.get_local_rank()
    check_stages(model.config, stages.size())
    mine = layers // stages.size()
    for index in range(layers):
        if index // mine != stage:
            delattr(model.layers, str(index))  # `del model.layers[index]` would number the others anew
    if stage > 0:
        del model.embedding
    if stage < stages.size() - 1:
        del model.head
        model.register_module("norm", nn.Identity())


def differentiate(
    model: GPTJ, batch: TensorBatch, microbatch_rows: int, objective: Objective, stages: "DeviceMesh"
) -> Tensor:
    """Leave the gradient of a replica's batch in this stage's weights; all its stages call it together.

    Returns:
        The summed cross entropy of the batch, on every stage.

    Raises:
        ConfigError: Fewer microbatches than stages, or rows that do not make up microbatches.
    """
    from torch.distributed.pipelining import Schedule1F1B

    rows = len(batch.tokens_BT)
    check_microbatches(rows, microbatch_rows, stages.size())
    stage = _stage(_Layers(model, objective), batch.tokens_BT[:microbatch_rows], stages)
    total = torch.zeros((), device=batch.tokens_BT.device)
    schedule = Schedule1F1B(stage, rows // microbatch_rows, _scoring(objective, total), scale_grads=False)
    first = (batch.tokens_BT,) if stage.is_first else ()
    named = {field.name: getattr(batch, field.name) for field in fields(batch)}
    schedule.step(*first, target=batch.labels_BT, return_outputs=False, **named)
    dist.all_reduce(total, group=stages.get_group())
    return total


def _stage(layers: "_Layers", tokens_BT: Tensor, stages: "DeviceMesh") -> "PipelineStage":
    """This process's stage, given tokens of one microbatch."""
    from torch.distributed.pipelining import PipelineStage

    # Told what passes between stages, they need not try it out. It is fp32 as the weights are, also under autocast.
    between = torch.empty(*tokens_BT.shape, layers.model.config.d_model, device="meta", requires_grad=True)
    index, group = stages.get_local_rank(), stages.get_group()
    entering = between if index else tokens_BT.to("meta")
    return PipelineStage(layers, index, stages.size(), tokens_BT.device, entering, between, group=group)


class _Layers(nn.Module):
    """What the schedule calls with one microbatch: what the stage before has made of it, tokens in the first stage, and
    its tensors by name.
    """

    def __init__(self, model: GPTJ, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, entering: Tensor, **named: Tensor) -> Tensor:
        batch = TensorBatch(**named)
        x_BTD = entering if entering.is_floating_point() else None
        with self.objective.autocast():
            return self.model.hidden(batch.tokens_BT, self.objective.mask_of(batch), x_BTD=x_BTD)


def _scoring(objective: Objective, total: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """The loss that the schedule differentiates; its cross entropy is added to `total` meanwhile."""

    def score(hidden_BTD: Tensor, labels_BT: Tensor) -> Tensor:
        with objective.autocast():
            loss = objective.loss_of(hidden_BTD, labels_BT)
        total.add_(loss.cross_entropy)
        return loss.objective * objective.weight

    return score


def norm_over(norm: Tensor, stages: "DeviceMesh") -> Tensor:
    """The norm of all stages' gradients together, given that of this one's."""
    norms = [torch.empty_like(norm) for _ in range(stages.size())]
    dist.all_gather(norms, norm, group=stages.get_group())
    together: Tensor = torch.linalg.vector_norm(torch.stack(norms))
    return together


def collect(held: Mapping[str, Tensor], stages: "DeviceMesh") -> dict[str, Tensor]:
    """Bring whole tensors of all stages, on the CPU, to the first; the others get nothing."""
    group: dict[str, Any] = {"group": stages.get_group()}
    if stages.get_local_rank() > 0:
        dist.send_object_list([{k: (t.shape, t.dtype) for k, t in held.items()}], **group, group_dst=0, device=CPU)
        for tensor in held.values():
            dist.send(tensor.contiguous(), **group, group_dst=0)
        return {}
    collected = dict(held)
    for stage in range(1, stages.size()):
        told: list[Any] = [None]
        dist.recv_object_list(told, **group, group_src=stage, device=CPU)
        for name, (shape, dtype) in told[0].items():
            collected[name] = torch.empty(shape, dtype=dtype)
            dist.recv(collected[name], **group, group_src=stage)
    return collected
