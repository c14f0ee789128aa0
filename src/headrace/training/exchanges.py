"""Exchanges between workers that are atomic, whoever is lost meanwhile.

An exchange reads copies and changes nothing until it is finished, and nobody finishes it before all have begun it. So
when a worker is gone, the others are at the same exchange, or some of them have just finished it. Those give the
result to the rest; where nobody has it, the ones that are left begin it again. All have then arrived at the same, and
what follows from it is the same on all: who reads which rows, who comes, who goes.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from headrace.training.circle import Circle, PeerLost


class Exchanges:
    """What the workers of a circle agree on, one thing after another.

    Args:
        circle: Who they are; those of torch.distributed's default group where None.
    """

    def __init__(self, circle: Circle | None = None) -> None:
        self.circle = circle or Circle()
        self._done = 0
        self._last = torch.empty(0)
        self.sharers = self.circle.members
        """Numbers of the workers that read the rows of the present step, a part each in this order."""
        self.counted = self.circle.members
        """Those of them who finished it, or what of it there is to measure."""
        self.sent_bytes = 0
        """Payload that left this worker since it started, or was about to when an exchange failed."""
        self.exchanges = 0
        """Collectives it took part in."""

    @property
    def rank(self) -> int:
        """This worker's place among those that are here now, from 0; the first one writes files."""
        return self.circle.rank

    @property
    def world(self) -> int:
        """How many they are."""
        return self.circle.world

    def enter(self, run: str) -> None:
        """Find the others who train `run`; a newcomer among them has still to be given their state."""
        try:
            self._catch_up(self.circle.enter(run))
        except PeerLost:
            self._mend()

    def invite(self, numbers: Sequence[int]) -> None:
        """Take in workers who wait, as many as still live; all call this after the same exchange."""
        try:
            self._catch_up(self.circle.regroup(self._done, numbers))
        except PeerLost:
            self._mend()

    def exchange(self, attempt: Callable[[], Tensor], like: Tensor) -> Tensor:
        """One exchange, finished by every worker that is left or by none.

        Args:
            attempt: Speaks with the circle's workers and returns what they all arrive at, one-dimensional; it finishes
                nowhere before all have begun it, changes nothing else that matters, and may be asked for again.
            like: Has the dtype of the result.
        """
        while True:
            try:
                result = attempt()
            except PeerLost:
                found = self._mend()
                if found is None:
                    continue
                result = found.view(like.dtype)
            self._done, self._last = self._done + 1, result
            return result

    def _mend(self) -> Tensor | None:
        """Regroup; the result of the exchange that failed here where another worker has it."""
        while True:
            try:
                return self._catch_up(self.circle.regroup(self._done))
            except PeerLost:
                continue

    def _catch_up(self, done: Mapping[int, int]) -> Tensor | None:
        """Bring the workers of a new group to the same exchange; bytes of the result that was missing here."""
        newest, found = max(done.values(), default=0), None
        if min(done.values(), default=0) < newest:
            source = next(rank for rank, finished in done.items() if finished == newest)
            found = self._spread(_bytes(self._last) if self.rank == source else None, source)
        if self.rank not in done:  # a newcomer misses nothing
            self._done = newest
        return found if self._done < newest else None

    def _spread(self, message: Tensor | None, source: int) -> Tensor:
        """One worker's bytes, at every worker."""
        size = torch.tensor([0 if message is None else message.numel()])
        self.circle.broadcast(size, source)
        found = torch.empty(int(size), dtype=torch.uint8) if message is None else message.clone()
        if int(size):
            self.circle.broadcast(found, source)
        self._count(0 if message is None else found.numel())
        return found

    def barrier(self) -> None:
        """Wait until all are at the same place of an exchange."""
        self.circle.all_reduce(torch.zeros(1))

    def total(self, values: Callable[[], Tensor]) -> Tensor:
        """The sum of a few numbers over all workers; `values` is asked again where a worker is lost meanwhile."""

        def attempt() -> Tensor:
            mine = values()
            self.circle.all_reduce(mine)
            return mine

        return self.exchange(attempt, torch.empty(0, dtype=torch.float64))

    def count(self, values: Sequence[float]) -> list[float]:
        """Sums of what the sharers of a step have measured, and who they are, as `counted`."""
        place = self.sharers.index(self.circle.members[self.rank])
        present = [float(place == other) for other in range(len(self.sharers))]
        mine = torch.tensor([*values, *present], dtype=torch.float64)
        found = self.total(mine.clone).tolist()
        self.counted = tuple(who for who, here in zip(self.sharers, found[len(values) :], strict=True) if here)
        return found[: len(values)]

    def share_out(self, generation: int | None = None) -> None:
        """Give the rows of the next step to the members of one generation, the same at every worker.

        Args:
            generation: The one that all have heard of; they hear of the first worker's where it is None.
        """
        if generation is None:
            told = self.total(lambda: torch.tensor([self._told_generation()], dtype=torch.float64))
            generation = int(told)
        self.sharers = self.circle.views[generation]

    def _told_generation(self) -> float:
        return 0.0 if self.rank else float(self.circle.generation)

    def agree(self, decide: Callable[[], str]) -> str:
        """What `decide` returns at the first worker, which alone calls it, at every one."""

        def attempt() -> Tensor:
            said = torch.frombuffer(bytearray(b" " + decide().encode()), dtype=torch.uint8) if self.rank == 0 else None
            found = self._spread(said, 0)
            self.barrier()
            return found

        return bytes(self.exchange(attempt, torch.empty(0, dtype=torch.uint8)).tolist()).decode()[1:]

    def _count(self, sent: int) -> None:
        if self.world > 1:
            self.sent_bytes += sent
            self.exchanges += 1


def _bytes(result: Tensor) -> Tensor:
    return result.detach().cpu().contiguous().view(torch.uint8)
