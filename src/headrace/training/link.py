"""What workers say to one another, every byte of it counted.

`Link` is the only way by which workers that train apart reach `torch.distributed` with tensors of a model. It counts
the payload that leaves this worker; headers and acknowledgements of the transport come on top, some percent of large
messages, and so do the few numbers in which all of them count labels and agree on a step.

Every exchange is atomic (`exchanges.py`): a worker that dies has no weights half moved.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from headrace.training.circle import Circle
from headrace.training.exchanges import Exchanges

BUCKET_BYTES = 2**26
"""Tensors are joined into messages of about this size."""


class Link(Exchanges):
    """The workers that train together, as this one reaches them.

    Args:
        circle: Who they are; those of torch.distributed's default group where None. Without an initialized one this
            worker is alone and sends nothing.
    """

    def __init__(self, circle: Circle | None = None) -> None:
        super().__init__(circle)
        self.collected_bytes = 0
        """Payload of other workers that arrived here for checkpoints; they count it as sent."""

    def mean_(self, tensors: Sequence[Tensor]) -> None:
        """Overwrite every tensor with its mean over all workers, which is the same on all to the last bit."""
        for bucket in self._buckets(tensors):
            _split(self._mean_of(self._joined(bucket)), bucket)

    def _mean_of(self, joined: Tensor) -> Tensor:
        return self.exchange(lambda: self._sum(joined.clone()).div_(self.world), joined)

    def weighted_mean_(self, tensors: Sequence[Tensor], weight: float) -> None:
        """The same, where this worker's count for `weight`; those of all sum to more than 0, or nothing is left."""
        for bucket in self._buckets(tensors):
            _split(self._weighted_mean_of(self._joined(bucket), weight), bucket)

    def _weighted_mean_of(self, joined: Tensor, weight: float) -> Tensor:
        # The weight travels with what it weighs: who is lost on the way is in both sums or in neither.
        message = torch.cat([joined * weight, joined.new_tensor([weight])])
        total = self.exchange(lambda: self._sum(message.clone()), message)
        return total[:-1] / total[-1].clamp(min=torch.finfo(total.dtype).tiny)

    def gather(self, message: Tensor) -> list[Tensor]:
        """Every worker's message, by rank; all of equal length, uint8."""
        if self.world == 1 and not self.circle.elastic:
            return [message]

        def attempt() -> Tensor:
            self._count((self.world - 1) * message.numel() * message.element_size())
            return torch.cat(self.circle.all_gather(self._carried(message)))

        return list(self.exchange(attempt, message).view(-1, message.numel()).to(message.device))

    @torch.no_grad()
    def collect(self, tensors: Sequence[Tensor]) -> list[list[Tensor]]:
        """Copies of tensors of every worker, by rank, on the CPU of the first one; the others get none."""
        found: list[list[Tensor]] = []

        def attempt() -> Tensor:
            found.clear()
            for tensor in tensors:
                mine, size = tensor.detach().cpu(), tensor.numel() * tensor.element_size()
                found.append(self.circle.gather(mine))
                self._count(size if self.rank else 0)
                self.collected_bytes += 0 if self.rank else (self.world - 1) * size
            self.barrier()
            return torch.empty(0)

        self.exchange(attempt, torch.empty(0))
        return found

    def send(self, tensor: Tensor, to: int) -> None:
        """Give a tensor to one worker, which must `receive` it, within an exchange."""
        self._count(tensor.numel() * tensor.element_size())
        self.circle.send(tensor.detach().cpu().contiguous().view(-1), to)

    def receive(self, room: Tensor, source: int) -> Tensor:
        """A tensor of one dimension, overwritten with what one worker sends within an exchange."""
        self.circle.receive(room, source)
        return room

    def _sum(self, message: Tensor) -> Tensor:
        # In a ring each worker passes every share on twice, but for its own.
        share = -(-message.numel() // self.world) * message.element_size()
        self._count(2 * (self.world - 1) * share)
        self.circle.all_reduce(message)
        return message

    def _buckets(self, tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
        """Tensors that go together; none where nobody can be there to exchange them with."""
        return iter(()) if self.world == 1 and not self.circle.elastic else _buckets(tensors)

    def _joined(self, bucket: Sequence[Tensor]) -> Tensor:
        return self._carried(torch.cat([tensor.detach().flatten() for tensor in bucket]))

    def _carried(self, tensor: Tensor) -> Tensor:
        """A tensor where the circle can carry it from."""
        return tensor.cpu() if self.circle.elastic else tensor


@torch.no_grad()
def _split(joined: Tensor, bucket: Sequence[Tensor]) -> None:
    for tensor, found in zip(bucket, joined.split([t.numel() for t in bucket]), strict=True):
        tensor.copy_(found.view_as(tensor))


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
