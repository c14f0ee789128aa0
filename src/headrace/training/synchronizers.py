"""The synchronizer that a configuration asks for."""

from collections.abc import Callable

import torch
from torch import nn

from headrace.training.averaging import AveragingConfig, Synchronizer, Synchronous
from headrace.training.compressed import Compressed
from headrace.training.link import Link
from headrace.training.local_updates import DiLoCo, ProxSkip


def synchronizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, config: AveragingConfig, link: Link
) -> Synchronizer:
    """Build it over weights that are equal on all workers.

    Args:
        model: Whole on every worker.
        optimizer: AdamW over the model.
        config: Kind and constants.
        link: The workers to exchange with.
    """
    if config.kind == "none":
        return Synchronous(optimizer)
    kinds: dict[str, Callable[..., Synchronizer]] = {"proxskip": ProxSkip, "diloco": DiLoCo, "compressed": Compressed}
    return kinds[config.kind](model, optimizer, config, link)
