"""What workers say to one another, every byte of it counted.

`Link` is the only way by which workers that train apart reach `torch.distributed` with tensors of a model. It counts
the payload that leaves this worker; headers and acknowledgements of the transport come on top, some percent of large
messages, and so do the few numbers in which all of them count labels and agree on a step.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from torch import Tensor

BUCKET_BYTES = 2**26
"""Tensors are joined into messages of about this size."""


class Link:
    """The workers that train together, as this one reaches them.

    Args:
        group: A process group of torch.distributed, the default one where None. Without an initialized one
            this worker is alone and sends nothing.
    """

    def __init__(self, group: dist.ProcessGroup | None = None) -> None:
        self._group = group
        self._alone = not dist.is_initialized()
        self.rank = 0 if self._alone else dist.get_rank(group)
        self.world = 1 if self._alone else dist.get_world_size(group)
        self.sent_bytes = 0
        """Payload that left this worker since it started."""
        self.exchanges = 0
        """Collectives it took part in."""
        self.collected_bytes = 0
        """Payload of other workers that arrived here for checkpoints; they count it as sent."""

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite every tensor with its mean over all workers, which is the same on all to the last bit."""
        self._sum(tensors, self.world)

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite every tensor with its sum over all workers, likewise."""
        self._sum(tensors, 1)

    @torch.no_grad()
    def _sum(self, tensors: Sequence[Tensor], divisor: int) -> None:
        if self.world == 1:
            return
        for bucket in _buckets(tensors):
            joined = torch.cat([tensor.flatten() for tensor in bucket])
            dist.all_reduce(joined, group=self._group)
            # In a ring each worker passes every share on twice, but for its own.
            share = -(-joined.numel() // self.world) * joined.element_size()
            self._count(2 * (self.world - 1) * share)
            joined /= divisor
            for tensor, found in zip(bucket, joined.split([t.numel() for t in bucket]), strict=True):
                tensor.copy_(found.view_as(tensor))

    def gather(self, message: Tensor) -> list[Tensor]:
        """Every worker's message, by rank; all of equal length, uint8."""
        if self.world == 1:
            return [message]
        messages = [torch.empty_like(message) for _ in range(self.world)]
        dist.all_gather(messages, message, group=self._group)
        self._count((self.world - 1) * message.numel() * message.element_size())
        return messages

    @torch.no_grad()
    def collect(self, tensor: Tensor) -> list[Tensor]:
        """Copies of a tensor of every worker, by rank, on the CPU of the first one; the others get none."""
        mine, size = tensor.detach().cpu(), tensor.numel() * tensor.element_size()
        if self.world == 1:
            return [mine.clone()]
        found = [torch.empty_like(mine) for _ in range(self.world)] if self.rank == 0 else None
        dist.gather(mine, found, dst=0, group=self._group)
        self._count(size if self.rank else 0)
        self.collected_bytes += 0 if self.rank else (self.world - 1) * size
        return found or []

    def _count(self, sent: int) -> None:
        self.sent_bytes += sent
        self.exchanges += 1


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Tensors of one dtype in their order, as many together as fill a message."""
    bucket: list[Tensor] = []
    filled = 0
    for tensor in tensors:
        size = tensor.numel() * tensor.element_size()
        if bucket and (filled + size > BUCKET_BYTES or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket, filled = [], 0
        bucket.append(tensor)
        filled += size
    if bucket:
        yield bucket
