"""Exchanges that break off, over real groups of gloo; the workers here are threads."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch.distributed import TCPStore

from headrace.errors import UnavailableError
from headrace.training import board, membership
from headrace.training.circle import PeerLost
from headrace.training.link import Link
from headrace.training.membership import Membership, RunOver

WORKERS = 3


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Link]]:
    """Workers in one view, by rank."""
    monkeypatch.setattr(membership, "SILENCE_SECONDS", 60.0)
    monkeypatch.setattr(board, "BEAT_SECONDS", 0.05)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = [Link(Membership(f"127.0.0.1:{store.port}", WORKERS)) for _ in range(WORKERS)]
    each(found, lambda link: (link.enter("run"), link.share_out()))
    yield sorted(found, key=lambda link: link.rank)
    for link in found:
        link.circle.leave()


def each(links: list[Link], function: Callable[[Link], Any]) -> list[Any]:
    with ThreadPoolExecutor(len(links)) as threads:
        return list(threads.map(function, links))


def tensor_of(link: Link, exchange: int) -> torch.Tensor:
    return torch.full((5,), float(10**exchange * (link.rank + 1)))


def mean(link: Link, exchange: int) -> float:
    tensor = tensor_of(link, exchange)
    link.mean_([tensor])
    return tensor[0].item()


def test_who_finished_an_exchange_gives_its_result_to_who_did_not(links: list[Link]) -> None:
    broken = links[1].circle.all_reduce

    def breaks_off(tensor: torch.Tensor) -> None:
        broken(tensor)
        links[1].circle.all_reduce = broken
        raise PeerLost("at the last moment")

    def work(link: Link) -> list[float]:
        first = mean(link, 1)
        if link is links[1]:
            link.circle.all_reduce = breaks_off  # type: ignore[method-assign]
        second = mean(link, 2)
        if link is links[2]:
            link.circle.leave()
            return [first, second]
        return [first, second, mean(link, 3)]

    # Ranks 0 and 1 are left, and the third exchange is of them alone.
    assert each(links, work) == [[20, 200, 1500], [20, 200, 1500], [20, 200]]


def test_what_nobody_finished_is_exchanged_again_by_those_who_are_left(links: list[Link]) -> None:
    def work(link: Link) -> list[float]:
        first = mean(link, 1)
        if link is links[0]:
            link.circle.leave()
            return [first]
        return [first, mean(link, 2)]

    # Who was second is first now; what it had to say stays what it was.
    assert each(links, work) == [[20], [20, 250], [20, 250]]


def test_gradients_count_for_as_many_labels_as_they_are_of_and_counts_say_who_was_there(links: list[Link]) -> None:
    def work(link: Link) -> tuple[float, list[float], int]:
        tensor = tensor_of(link, 0)
        link.weighted_mean_([tensor], weight=link.rank + 1)
        if link is links[1]:
            link.circle.leave()
            return tensor[0].item(), [], 0
        return tensor[0].item(), link.count([link.rank + 1.0]), len(link.counted)

    # (1 * 1 + 2 * 2 + 3 * 3) / 6; rank 2 has become rank 1 when all count, and counts what it had measured before.
    assert each(links, work) == [
        (pytest.approx(7 / 3), [4.0], 2),
        (pytest.approx(7 / 3), [], 0),
        (pytest.approx(7 / 3), [4.0], 2),
    ]


def test_messages_and_decisions_survive_a_worker(links: list[Link]) -> None:
    def work(link: Link) -> tuple[list[int], str]:
        own = torch.tensor([link.rank], dtype=torch.uint8)
        if link is links[0]:
            link.circle.leave()
            return [], ""
        return [message.item() for message in link.gather(own)], link.agree(lambda: f"decided by {link.rank}")

    assert each(links, work) == [([], ""), ([1, 2], "decided by 0"), ([1, 2], "decided by 0")]


def test_a_checkpoint_that_the_first_worker_dies_over_is_collected_by_the_next(links: list[Link]) -> None:
    def work(link: Link) -> list[list[float]]:
        own = [torch.tensor([float(link.rank)]), torch.tensor([link.rank + 0.5])]
        if link is links[0]:
            link.circle.gather(own[0])
            link.circle.leave()
            return []
        return [[tensor.item() for tensor in found] for found in link.collect(own)]

    assert each(links, work) == [[], [[1, 2], [1.5, 2.5]], [[], []]]


def test_a_connection_that_breaks_loses_nobody(links: list[Link]) -> None:
    whole = links[2].circle.all_reduce

    def breaks_off(tensor: torch.Tensor) -> None:
        links[2].circle.all_reduce = whole  # type: ignore[method-assign]
        raise PeerLost("before it has begun")

    links[2].circle.all_reduce = breaks_off  # type: ignore[method-assign]
    assert each(links, lambda link: (mean(link, 1), link.world, link.circle.generation)) == [(20, 3, 2)] * 3


def test_a_worker_that_is_behind_when_the_others_finish_is_told_so(links: list[Link]) -> None:
    def work(link: Link) -> str:
        if link is not links[2]:
            mean(link, 1)
            link.circle.finish()
            return "finished"
        link.circle.all_reduce(tensor_of(link, 1))
        try:
            mean(link, 2)  # the others have not begun it, and never will
        except RunOver:
            return "over"
        return ""

    assert each(links, work) == ["finished", "finished", "over"]


def test_a_fixed_circle_has_nobody_to_spare() -> None:
    link = Link()

    def attempt() -> torch.Tensor:
        raise PeerLost("Connection closed by peer [127.0.0.1]:1. This is typically caused by a remote worker crashing")

    with pytest.raises(UnavailableError, match=r"gone or does not answer .* Start all of them again"):
        link.exchange(attempt, torch.empty(0))
