"""Newcomers, over real groups of gloo; the workers here are threads."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

from headrace.errors import UnavailableError
from headrace.training import board, membership
from headrace.training.circle import PeerLost
from headrace.training.joining import Word, pass_on, take_in
from headrace.training.link import Link
from headrace.training.membership import Membership
from headrace.training.run import State
from headrace.training.worker_files import WorkerState


class Worker:
    """One that has a state to give or is to be given one, and may die when it is asked for it."""

    def __init__(self, store: TCPStore, beginners: int, *, dies: bool = False) -> None:
        self.link, self._dies = Link(Membership(f"127.0.0.1:{store.port}", beginners)), dies
        self.given: State | None = None

    def enter(self) -> None:
        self.link.enter("run")

    def invite(self, newcomers: int) -> None:
        while len(self.link.circle.asking(9)) < newcomers:
            pass
        self.link.total(lambda: torch.zeros(1, dtype=torch.float64))  # what they hear of the newcomers by
        self.link.invite(self.link.circle.asking(9))

    def pass_on(self) -> None:
        pass_on(self.link, self._give, self._accept)

    def _give(self) -> State:
        if self._dies:
            self.link.circle.leave()
            raise SystemExit
        return self._state(self.link.circle.members[self.link.rank])

    @staticmethod
    def _state(number: int) -> State:
        own = WorkerState(
            {"weight": torch.arange(6.0).view(2, 3) * number},
            {"weight/step": torch.tensor(7.0), "weight/exp_avg": torch.ones(2, 3, dtype=torch.float64)},
            {},
        )
        return {"step": 7, "by": number}, own

    def _accept(self, state: State) -> None:
        self.given = state


def at_once(*functions: Any) -> None:
    with ThreadPoolExecutor(len(functions)) as threads:
        for future in [threads.submit(function) for function in functions]:
            future.result()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> TCPStore:
    monkeypatch.setattr(membership, "SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(board, "BEAT_SECONDS", 0.05)
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


@pytest.mark.parametrize("dies", [False, True])
def test_a_newcomer_is_given_the_state_by_the_first_who_lives(dies: bool, store: TCPStore) -> None:
    first, second = Worker(store, 2, dies=dies), Worker(store, 2)
    at_once(first.enter, second.enter)
    if first.link.rank:
        first._dies, second._dies = second._dies, first._dies
    newcomers = [Worker(store, 2), Worker(store, 2)]

    def member(worker: Worker) -> None:
        worker.invite(len(newcomers))
        try:
            worker.pass_on()
        except SystemExit:
            return

    def newcomer(worker: Worker) -> None:
        worker.enter()
        assert worker.link.rank in worker.link.circle.newcomers
        worker.pass_on()

    at_once(lambda: member(first), lambda: member(second), *(lambda w=w: newcomer(w) for w in newcomers))
    facts, own = Worker._state(2 if dies else 1)
    for worker in newcomers:
        given, tensors = worker.given or ({}, WorkerState({}, {}, {}))
        assert given == facts
        for part, expected in own._asdict().items():
            found = getattr(tensors, part)
            assert found.keys() == expected.keys()
            assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
            assert all(found[name].dtype == tensor.dtype for name, tensor in expected.items())
        assert worker.link.world == (3 if dies else 4)
        assert worker.link.circle.newcomers == ()
    assert first.given is second.given is None
    for worker in (first, second, *newcomers):
        worker.link.circle.leave()


class Sharer(Worker):
    """One as a run is, of which `take_in` asks no more."""

    def handed_over(self) -> State:
        return self._give()

    def join(self, state: State) -> None:
        self._accept(state)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_member_that_is_cut_off_when_newcomers_are_named_takes_them_in_with_the_others(
    when: str, store: TCPStore
) -> None:
    members, newcomer = [Sharer(store, 2), Sharer(store, 2)], Sharer(store, 2)
    at_once(*(member.enter for member in members))
    cut_off = next(member for member in members if member.link.rank == 1).link
    whole = cut_off.circle.all_reduce

    def breaks_off(tensor: torch.Tensor) -> None:
        cut_off.circle.all_reduce = whole  # type: ignore[method-assign]
        if when == "after":
            whole(tensor)
        raise PeerLost("at the moment")

    def member(worker: Sharer) -> None:
        link = worker.link
        while not link.circle.asking(9):
            pass
        if link is cut_off:
            link.circle.all_reduce = breaks_off  # type: ignore[method-assign]

        def say() -> torch.Tensor:
            said = link.circle.asking(1) if link.rank == 0 else [0]
            return torch.tensor(said, dtype=torch.float64)

        while link.world < 3:  # a view without it may be made first, where one regroups before it has heard of it
            (guest,) = map(int, link.total(say).tolist())
            take_in(worker, link, Word(False, False, [guest]))  # type: ignore[arg-type]

    def enter() -> None:
        newcomer.enter()
        newcomer.pass_on()
        newcomer.link.share_out()

    at_once(enter, *(lambda m=m: member(m) for m in members))
    everybody = [*members, newcomer]
    assert [worker.link.sharers for worker in everybody] == [(1, 2, 3)] * 3
    assert {worker.given is not None for worker in members} == {False}
    assert (newcomer.given or ({}, None))[0] == {"step": 7, "by": 1}
    at_once(*(worker.link.barrier for worker in everybody))
    for worker in everybody:
        worker.link.circle.leave()


def test_a_newcomer_that_has_the_state_goes_on_where_the_one_who_gave_it_is_gone(store: TCPStore) -> None:
    only, newcomer = Worker(store, 1), Worker(store, 1)
    only.enter()

    def dies() -> None:
        only.link.circle.leave()
        raise SystemExit

    def giver() -> None:
        only.invite(1)
        only.link.barrier = dies  # type: ignore[method-assign]
        with pytest.raises(SystemExit):
            only.pass_on()

    def taker() -> None:
        newcomer.enter()
        newcomer.pass_on()

    at_once(giver, taker)
    assert (newcomer.given or ({}, None))[0] == {"step": 7, "by": 1}
    assert (newcomer.link.world, newcomer.link.circle.newcomers) == (1, ())
    newcomer.link.circle.leave()


def test_a_newcomer_that_outlives_all_who_had_the_state_says_so(store: TCPStore) -> None:
    only, newcomer = Worker(store, 1, dies=True), Worker(store, 1)
    only.enter()

    def giver() -> None:
        only.invite(1)
        with pytest.raises(SystemExit):
            only.pass_on()

    def taker() -> None:
        newcomer.enter()
        with pytest.raises(
            UnavailableError, match="All workers that could tell this one the state of the run are gone"
        ):
            newcomer.pass_on()

    at_once(giver, taker)
    newcomer.link.circle.leave()
