"""Workers who train apart and go on without those that are gone, in the same processes, and with those that come.

1. Each draws a number from a store that none of them keeps (`board.py`), and shows by its beats that it lives.
2. A *view* is a numbered list of workers, left in the store once and never changed. Those in it are a gloo group.
3. When an exchange fails, each worker tells that it is ready for the next view and how many exchanges it has finished.
   Once all others of the present one have done so too or are silent, it proposes those that did; the first proposal
   holds. The link then brings all to the same exchange (`link.py`), and they go on with the weights they have.
4. A newcomer asks. When the weights of the others are the same, after an exchange, their first worker invites it, and
   they make the next view with it as if one had failed. It is given their state (`joining.py`) before the next step.
5. Rows of a step are shared out by rank in the view that the exchange before it was finished in: the batch stays the
   same, and a worker that is lost in a step leaves its rows of that step to nobody.
6. The first worker of a view writes files. Where it is gone, the next one does, from the step it finds them at; the
   one before, should it only have hung, looks for a later view before it tells of a step, and its open files have no
   name any more.
7. Who is in no view any more although it lives was silent for too long: it ends, and comes back as a newcomer.
8. Where nobody of the last view lives, those who ask begin together, from the newest checkpoint.
"""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist
from torch.distributed import PrefixStore  # type: ignore[attr-defined]

from headrace.errors import UnavailableError
from headrace.training.board import Beats, Board, Silence
from headrace.training.circle import Circle

STORE = "HEADRACE_STORE"
"""Environment variable: where workers find one another, `HOST:PORT`; they then come and go."""
WORKERS = "HEADRACE_WORKERS"
"""Environment variable: how many begin a run together, 1 where it is not set; any number may come later."""
SILENCE_SECONDS = 10.0
"""Without a beat, after which a worker that keeps others waiting is taken for dead."""
LOOK_SECONDS = 0.05
"""Between two looks at the store while waiting."""
PATIENCE_SECONDS = 300.0
"""For which an exchange waits for a worker that lives and does not come."""
FORMING = timedelta(seconds=30)
"""For which the workers of a new view wait for one another."""
TRIES = 5
"""Views in a row that may fail to form a group."""


class RunOver(Exception):
    """The others have finished the run, and what it makes is written."""


class Membership(Circle):
    """The workers of the present view.

    Args:
        address: Of the store, `HOST:PORT`.
        beginners: How many begin a run together.
        patience: For which an exchange waits, and a view for a worker that lives.
    """

    elastic = True

    def __init__(self, address: str, beginners: int = 1, patience: timedelta | None = None) -> None:
        super().__init__()
        self._address, self._beginners = address, beginners
        self._patience = patience or timedelta(seconds=PATIENCE_SECONDS)
        self._empty = True
        """Whether this worker has still to be given the state of the others."""
        self._left = False

    @property
    def sent_bytes(self) -> int:  # type: ignore[override]
        """What this worker left at the store, its beats too."""
        return self._board.sent_bytes + self._beats.board.sent_bytes

    def enter(self, run: str) -> Mapping[int, int]:
        """Begin a run with others or ask to be taken into it, and wait for that."""
        self._board = Board(self._address, run)
        self._number = self._board.count("workers")
        self._beats = Beats(Board(self._address, run), self._number)
        done = self._next(self._await_view())
        return done if done is not None else self.regroup(0)

    def _await_view(self) -> int:
        """Ask, until there is a view with this worker."""
        self._board.change("asking", lambda asking: sorted({*(asking or []), self._number}))
        silence, generation, last = self._silence(), 1, []
        while (view := self._board.read(f"view/{generation}")) is None or self._number not in view["members"]:
            if view is not None:
                generation, last = generation + 1, view["members"]
                continue
            if self._board.read(f"invited/{self._number}") == generation:
                self._board.leave(f"ready/{generation}/{self._number}", self._word(0))
            elif all([silence.of(number) for number in last]):
                self._begin(generation, silence)
            time.sleep(LOOK_SECONDS)
        return generation

    def _begin(self, generation: int, silence: Silence) -> None:
        """Propose all who ask as the first view of a run, or of one whose workers have all died."""
        asking = [number for number in self._board.read("asking") or [] if not silence.of(number)]
        if len(asking) >= self._beginners:
            self._board.leave("over", False)
            self._agree(generation, asking, {"begins": True})

    def regroup(self, done: int, inviting: Sequence[int] = ()) -> Mapping[int, int]:
        """Make the next view with all of this one who live, and those invited.

        Raises:
            UnavailableError: The others have gone on without this worker, or cannot be reached from here.
            RunOver: They have finished.
        """
        for _ in range(TRIES):
            self._disband()
            generation = self.generation + 1
            for number in inviting:
                self._board.leave(f"invited/{number}", generation)
            self._agree(generation, {*self.members, *inviting}, self._word(done))
            if (found := self._next(generation)) is not None:
                return found
        raise UnavailableError(
            f"{TRIES} groups of workers could not be formed: they reach the store at {self._address} and not one "
            "another. Mend the network and start the workers again: they go on from the last checkpoint."
        )

    def _word(self, done: int) -> dict[str, Any]:
        """What makes this worker ready for the next view of those who train."""
        return {"begins": False, "done": None if self._empty else done}

    def _agree(self, generation: int, candidates: Iterable[int], word: Mapping[str, Any]) -> None:
        """Wait until there is a view: until all candidates are ready for it, to begin or to go on, or are silent."""
        self._board.leave(f"ready/{generation}/{self._number}", word)
        silence, others = self._silence(), sorted({*candidates} - {self._number})
        patient_until = time.monotonic() + self._patience.total_seconds()
        while self._board.read(f"view/{generation}") is None:
            if self._board.read("over"):
                raise RunOver
            words = {number: self._board.read(f"ready/{generation}/{number}") for number in others}
            ready = {n: said for n, said in words.items() if said and said["begins"] == word["begins"]}
            waiting = [number for number in others if number not in ready and not silence.of(number)]
            if not waiting or time.monotonic() > patient_until:
                words = ready | {self._number: word}
                done = {str(number): words[number].get("done", 0) for number in sorted(words)}
                self._board.propose(f"view/{generation}", {"members": sorted(words), "done": done})
                return
            time.sleep(LOOK_SECONDS)

    def _next(self, generation: int) -> dict[int, int] | None:
        """Enter a view; exchanges finished by those of it who have a state, or None where it forms no group."""
        view = self._board.read(f"view/{generation}")
        members = view["members"]
        if self._number not in members:
            raise UnavailableError(
                f"The others have gone on without this worker, which was silent for {SILENCE_SECONDS:g} s or kept them "
                f"waiting for {self._patience.seconds} s. Start it again: it joins them."
            )
        self.generation, self.members, self.rank = generation, tuple(members), members.index(self._number)
        self.views[generation] = self.members
        self._board.change("asking", lambda asking: [one for one in asking or [] if one not in members])
        finished = {rank: view["done"][str(number)] for rank, number in enumerate(members)}
        done = {rank: count for rank, count in finished.items() if count is not None}
        self.newcomers = tuple(rank for rank in finished if rank not in done)
        self._empty = self.rank not in done
        return done if len(members) == 1 or self._form(generation) else None

    def _form(self, generation: int) -> bool:
        store = PrefixStore(f"group/{generation}", self._board.store)
        try:
            group = dist.ProcessGroupGloo(store, self.rank, self.world, FORMING)
        except RuntimeError:
            return False
        group._set_default_timeout(self._patience)
        self._group = group
        return True

    def received(self) -> None:
        """This worker has the state of the others."""
        self._empty, self.newcomers = False, ()

    def is_superseded(self) -> bool:
        """Whether there is a next view; not while the store does not answer."""
        with contextlib.suppress(UnavailableError):
            return self._board.has(f"view/{self.generation + 1}")
        return False

    def asking(self, room: int) -> list[int]:
        """Who waits to be taken in, so many at most; nobody while the store does not answer."""
        with contextlib.suppress(UnavailableError):
            found = [number for number in self._board.read("asking") or [] if number not in self.members]
            return found[: max(room, 0)]
        return []

    def finish(self) -> None:
        """Tell who may be behind that the run is over."""
        with contextlib.suppress(UnavailableError):
            self._board.leave("over", True)
        self.leave()

    def leave(self) -> None:
        """Part from the others, who need not wait to know it."""
        if not self._left:
            self._left = True
            with contextlib.suppress(UnavailableError):
                self._board.leave(f"gone/{self._number}", True)
            self._beats.end()
            self._disband()

    def _disband(self) -> None:
        """Let the present group go, which ends what its other workers wait for in it."""
        if self._group is not None:
            self._group.abort()
        self._group = None

    def _silence(self) -> Silence:
        return Silence(self._board, SILENCE_SECONDS)
