"""Weights over replicas: each holds a part of every weight, its gradient and its moments.

FSDP2 gathers a layer's weights before they are used, drops them afterwards, and sums gradients while it
hands each replica its part of them. Outside of this module a weight is whole: `whole` gathers the parts for a
checkpoint, `part` cuts one again, for however many replicas there are then.

Source: Zhao et al. 2023, PyTorch FSDP, arXiv:2304.11277.
"""

from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from headrace.models.gptj import GPTJ
from headrace.training.parallel import Replicas


def place(model: GPTJ, replicas: Replicas) -> GPTJ:
    """Put a model on this process's device, or this process's part of it where there are several."""
    if replicas.mesh is None:
        return model.to(replicas.device.torch)
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

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
    """Gather tensors that replicas hold in parts, onto the CPU of the main process; the others get nothing."""
    gathered = {}
    for name, tensor in tensors.items():
        full = tensor.full_tensor() if _is_part(tensor) else tensor  # type: ignore[attr-defined]
        if replicas.is_main:
            gathered[name] = full.cpu()
    return gathered


def part(tensor: Tensor, like: Tensor) -> Tensor:
    """What this process holds of a whole tensor, in memory of its own, where it holds `like` of another."""
    if not _is_part(like):
        return tensor.to(like.device, copy=True)
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    # No source rank: every process has read the whole tensor, and cuts its part out of that.
    cut = distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)
    return cut.clone()  # for a cut may be a view, which would keep the whole tensor in memory


def parts(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Whole tensors as this process holds those of the same names; others are left as they are."""
    return {name: part(tensor, like[name]) if name in like else tensor for name, tensor in tensors.items()}


def clip_grad_norm_(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale all gradients down to a norm of at most `max_norm`, taken over all replicas' parts together.

    Returns:
        The norm before, the same scalar on every replica.
    """
    norm = nn.utils.clip_grad_norm_(parameters, max_norm)
    return norm.full_tensor() if _is_part(norm) else norm  # type: ignore[attr-defined,no-any-return]


def _is_part(tensor: Tensor) -> bool:
    """Whether a tensor is a DTensor, asked without importing them into a process that has none."""
    return type(tensor) not in (Tensor, nn.Parameter) and hasattr(tensor, "full_tensor")
