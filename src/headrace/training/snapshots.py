"""Copies of a run in host memory, which can be written while the run goes on."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from headrace.checkpoints import Contents


class Snapshot:
    """Host memory for one copy of a run, used again for the next: fresh pages cost more than the copying.

    It is as large as weights and moments together, and pinned where they come from a GPU.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str], Tensor] = {}

    def of(self, contents: Contents) -> Contents:
        """The same contents, of which no tensor changes any more until the next call."""
        model = self._copied("model", contents.model)
        optimizer = None if contents.optimizer is None else self._copied("optimizer", contents.optimizer)
        if any(tensor.is_cuda for tensor in contents.model.values()):
            torch.cuda.synchronize()  # the copies were only begun
        return replace(contents, model=model, optimizer=optimizer)

    def _copied(self, part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        copies = {}
        for name, tensor in tensors.items():
            kept = self._kept.get((part, name))
            if kept is None or kept.shape != tensor.shape or kept.dtype != tensor.dtype:
                kept = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                self._kept[part, name] = kept
            copies[name] = kept.copy_(tensor.detach(), non_blocking=True)
        return copies
