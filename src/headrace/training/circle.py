"""Workers in one process group, and what becomes of an exchange when one of them is gone.

A `Circle` is as many workers as torchrun started, all of whom must live; `membership.py` has the one that goes on
with those who are left.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from headrace.errors import UnavailableError, shown


class PeerLost(Exception):
    """A collective failed because another worker is gone, silent for too long, or has left it to regroup."""


class Circle:
    """The workers of torch.distributed's default group, or this one alone where there is none."""

    elastic = False
    """Whether workers may leave and come; tensors then travel through the host's memory."""
    newcomers: tuple[int, ...] = ()
    """Ranks of those who have still to be given the state of the others."""
    generation = 0
    """Changes whenever the workers do."""
    sent_bytes = 0
    """What this worker sent to find the others, beside what it exchanges with them."""

    def __init__(self) -> None:
        self._group: dist.ProcessGroup | dist.ProcessGroupGloo | None = None
        if dist.is_initialized():
            self._group = dist.group.WORLD
        self._why = ""
        self.members: tuple[int, ...] = tuple(range(1 if self._group is None else self._group.size()))
        """A number of each worker that never becomes another's, by rank."""
        self.rank = 0 if self._group is None else self._group.rank()
        self.views: dict[int, tuple[int, ...]] = {0: self.members}
        """The members by generation, as far as this worker has seen any."""

    @property
    def world(self) -> int:
        """Workers."""
        return len(self.members)

    def enter(self, run: str) -> Mapping[int, int]:
        """Find the others who train `run`: how many exchanges each has finished, by rank; of newcomers nothing."""
        return {}

    def regroup(self, done: int, inviting: Sequence[int] = ()) -> Mapping[int, int]:
        """Go on with those who are left, and those invited; `done` exchanges are finished here.

        Returns:
            How many each of them has finished, by rank; of newcomers nothing.

        Raises:
            UnavailableError: Nobody may be missing.
        """
        raise UnavailableError(lost(self._why))

    def received(self) -> None:
        """All newcomers have the state of the others."""

    def is_superseded(self) -> bool:
        """Whether the others have gone on without this worker, as they do when it hangs."""
        return False

    def asking(self, room: int) -> list[int]:
        """Numbers of those who wait to be taken in, so many at most."""
        return []

    def finish(self) -> None:
        """Part from the others, and tell who may be behind that the run is over."""

    def leave(self) -> None:
        """Part from the others for good."""

    def all_reduce(self, tensor: Tensor) -> None:
        """Overwrite a tensor with its sum over all workers."""
        self._carry(lambda group: group.allreduce([tensor]))

    def all_gather(self, tensor: Tensor) -> list[Tensor]:
        """Every worker's, by rank."""
        if self._group is None:
            return [tensor]
        found = [torch.empty_like(tensor) for _ in self.members]
        self._carry(lambda group: group.allgather([found], [tensor]))
        return found

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """Every worker's, by rank, at the first one; elsewhere nothing."""
        if self._group is None:
            return [tensor.clone()]
        found = [torch.empty_like(tensor) for _ in self.members] if self.rank == 0 else []
        self._carry(lambda group: group.gather([found] if found else [], [tensor], dist.GatherOptions()))
        return found

    def broadcast(self, tensor: Tensor, source: int) -> None:
        """Overwrite a tensor with that of rank `source`."""
        options = dist.BroadcastOptions()
        options.rootRank = source
        self._carry(lambda group: group.broadcast([tensor], options))

    def send(self, tensor: Tensor, to: int) -> None:
        """Give a tensor to one worker, which must `receive` it."""
        self._carry(lambda group: group.send([tensor], to, 0))

    def receive(self, tensor: Tensor, source: int) -> None:
        """Overwrite a tensor with what one worker sends."""
        self._carry(lambda group: group.recv([tensor], source, 0))

    def _carry(self, collective: Callable[[Any], dist.Work]) -> None:
        if self._group is None:
            return
        try:
            collective(self._group).wait()
        except RuntimeError as error:  # gloo has no other
            self._why = str(error)
            raise PeerLost(self._why) from error


def lost(why: str) -> str:
    """What is told where a process is gone that the others cannot do without."""
    reason = shown(why).partition(". ")[0]
    return (
        f"Another process of this run is gone or does not answer ({reason}). Start all of them again, as torchrun "
        "does by itself: they go on from the last checkpoint."
    )
