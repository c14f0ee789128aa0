"""The matrices of a layer cut over the processes of one replica, so that each multiplies a part.

Queries, keys, values and the inner width of the feed-forward are cut by output: a process has some heads and some
inner units whole, and needs to hear of the others only once their sums are added up. Embedding, head and layer norms
are whole in every process.

Source: Shoeybi et al. 2019, Megatron-LM, arXiv:1909.08053.

Letters: P processes, H heads, K head width, D model width.
"""

from typing import TYPE_CHECKING

from torch import Tensor

from headrace.models.gptj import GPTJ, Layer
from headrace.training.mesh import check_matrices

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def cut_layers(model: GPTJ, mesh: "DeviceMesh") -> None:
    """Keep this process's part of every layer's matrices; the mesh has one axis.

    Raises:
        ConfigError: Heads or inner units that the processes cannot share evenly.
    """
    from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

    check_matrices(model.config, mesh.size())
    for layer in model.layers:
        assert isinstance(layer, Layer)
        layer.qkv.weight.data = by_process(layer.qkv.weight.data, mesh.size())
        plan = {"qkv": ColwiseParallel(), "out": RowwiseParallel(), "ff_in": ColwiseParallel()}
        parallelize_module(layer, mesh, plan | {"ff_out": RowwiseParallel()})


def by_process(qkv: Tensor, processes: int) -> Tensor:
    """Order the rows of `qkv.weight` (3HK, D) so that each P-th of them is queries, keys and values of some heads."""
    ordered: Tensor = qkv.unflatten(0, (3, processes, -1)).transpose(0, 1).flatten(0, 2)
    return ordered


def by_kind(qkv: Tensor, processes: int) -> Tensor:
    """The inverse of `by_process`: all queries, then all keys, then all values."""
    ordered: Tensor = qkv.unflatten(0, (processes, 3, -1)).transpose(0, 1).flatten(0, 2)
    return ordered


def is_cut_by_head(name: str) -> bool:
    """Whether a tensor of this name, a weight or its moment, has its rows in the order of `by_process`."""
    return "qkv.weight" in name
