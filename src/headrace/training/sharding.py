"""Weights over processes: each holds a part of every weight, its gradient and its moments.

FSDP2 gathers a layer's weights before they are used, drops them afterwards, and sums gradients while it
hands each replica its part of them. Outside of this module a weight is whole: `whole` gathers the parts for a
checkpoint, `part` cuts one again, for however many processes there are then. Where layers are in stages, a process
holds nothing of what belongs to another stage.

Source: Zhao et al. 2023, PyTorch FSDP, arXiv:2304.11277.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn

from headrace.models import attention, recompute
from headrace.models.compiled import compile_layers
from headrace.models.gptj import GPTJ
from headrace.training.parallel import ALONE, Replicas
from headrace.training.pipeline import collect, cut_stages, norm_over
from headrace.training.spmd import spread_weights
from headrace.training.tensor_parallel import by_kind, by_process, cut_layers, is_cut_by_head

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

T = TypeVar("T", bound=Tensor)


def place(model: GPTJ, replicas: Replicas) -> GPTJ:
    """Put a model on this process's device, or this process's part of it where there are several.

    Raises:
        ConfigError: Heads, inner units or layers that the processes of a replica cannot share evenly, no such policy
            of recomputation, or no such attention or compilation on the device.
    """
    model.recompute, model.attention = recompute.asked(), attention.asked(replicas.device)
    compile_layers(model, replicas.device)
    if replicas.spmd is not None:
        return spread_weights(model.to(replicas.device.torch), replicas.spmd)
    if replicas.mesh is None or replicas.link is not None:
        return model.to(replicas.device.torch)
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    if replicas.mesh["tensor"].size() > 1:
        cut_layers(model, replicas.mesh["tensor"])
    if replicas.stages is not None:
        cut_stages(model, replicas.stages)
    for layer in model.layers:
        fully_shard(layer, mesh=replicas.mesh["data"])
    fully_shard(model, mesh=replicas.mesh["data"])
    register_fsdp_forward_method(model, "hidden")
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # The loss is divided by the labels of all replicas already: their gradients are to be added up.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def whole(tensors: Mapping[str, Tensor], replicas: Replicas) -> dict[str, Tensor]:
    """Gather tensors that processes hold in parts, onto the CPU of the main process; the others get nothing.

    Apart, all have the whole, and any may be the main process when it is asked for.
    """
    gathered, stages = {}, replicas.stages
    keeps = replicas.is_main or replicas.link is not None if stages is None else replicas.rank == 0
    for name, tensor in tensors.items():
        distributed = _distributed(tensor)
        full = tensor if distributed is None else distributed.full_tensor()
        if distributed is not None and (cuts := _cuts(name, distributed)) > 1:
            full = by_kind(full, cuts)
        if keeps:
            gathered[name] = full.cpu()
    return collect(gathered, stages) if keeps and stages is not None else gathered


def part(name: str, tensor: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a whole tensor, in memory of its own, where it holds `like` of the weight `name`."""
    distributed = _distributed(like)
    if distributed is None:
        return tensor.to(like.device, copy=True)
    from torch.distributed.tensor import distribute_tensor

    if (cuts := _cuts(name, distributed)) > 1:
        tensor = by_process(tensor, cuts)
    mesh, placements = distributed.device_mesh, distributed.placements
    # No source rank: every process has read the whole tensor, and cuts its part out of that. The part may be
    # a view, which would keep the whole in memory.
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None).clone()


def load(model: GPTJ, tensors: Mapping[str, Tensor], replicas: Replicas) -> None:
    """Fill a placed model with whole weights, each process with its part."""
    like = model.state_dict()
    mine = {name: part(name, tensor, like[name]) if name in like else tensor for name, tensor in tensors.items()}
    if replicas.stages is not None:  # what is not here is on another stage
        mine = {name: mine[name] for name in like if name in mine}
    model.load_state_dict(mine)
    if replicas.spmd is not None:  # what is copied into a weight brings its own layout along
        spread_weights(model, replicas.spmd)


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float, replicas: Replicas = ALONE) -> Tensor:
    """Scale all gradients down to a norm of at most `max_norm`, taken over all processes' parts together.

    Returns:
        The norm before, the same scalar in every process.
    """
    groups = by_mesh(p for p in parameters if p.grad is not None)
    norms = [_total_norm(group) for group in groups]
    norm = norms[0] if len(norms) == 1 else torch.linalg.vector_norm(torch.stack(norms))
    if replicas.stages is not None:
        norm = norm_over(norm, replicas.stages)
    for group in groups:
        nn.utils.clip_grads_with_norm_(group, max_norm, norm)
    return norm


def by_mesh(parameters: Iterable[T]) -> list[list[T]]:
    """Weights in groups that lie on the same mesh, for no operation takes tensors of two."""
    groups: dict[object, list[T]] = {}
    for parameter in parameters:
        distributed = _distributed(parameter)
        groups.setdefault(None if distributed is None else distributed.device_mesh, []).append(parameter)
    return list(groups.values())


def _total_norm(parameters: list[Tensor]) -> Tensor:
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    distributed = _distributed(norm)
    return norm if distributed is None else distributed.full_tensor()


def _cuts(name: str, tensor: "DTensor") -> int:
    """Over how many processes of a replica the heads of a tensor are shared out."""
    mesh = tensor.device_mesh
    names = mesh.mesh_dim_names or ()
    return mesh["tensor"].size() if is_cut_by_head(name) and "tensor" in names else 1


def _distributed(tensor: Tensor) -> "DTensor | None":
    """A tensor that is held in parts, as such; told without importing what a process alone never needs."""
    if type(tensor) in (Tensor, nn.Parameter):
        return None
    from torch.distributed.tensor import DTensor

    return tensor if isinstance(tensor, DTensor) else None
