"""Two ends of a stream in threads of their own: what comes is fetched ahead, what goes is written behind.

The number of items under way is bounded, so that a fast end waits for a slow one and memory stays flat.
An error of either thread comes out where the stream is used, and none outlives the `with` block.
"""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
END = object()


@contextlib.contextmanager
def ahead(items: Iterable[Item], depth: int) -> Iterator[Iterator[Item]]:
    """Fetch up to `depth` items before they are asked for, in order.

    A generator behind `items` is closed when the block is left.
    """
    source = iter(items)
    with _one_thread("headrace-ahead") as pool:
        try:
            yield _fetched(source, pool, depth)
        finally:
            pool.shutdown(cancel_futures=True)
            if hasattr(source, "close"):
                source.close()


def _fetched(source: Iterator[Item], pool: ThreadPoolExecutor, depth: int) -> Iterator[Item]:
    pending: deque[Future[Any]] = deque(pool.submit(next, source, END) for _ in range(depth))
    while (item := pending.popleft().result()) is not END:
        pending.append(pool.submit(next, source, END))
        yield item


@contextlib.contextmanager
def behind(write: Callable[[Item], None], depth: int) -> Iterator[Callable[[Item], None]]:
    """Give a function that hands items to `write`, in order, and waits only while `depth` are unwritten.

    All are written when the block is left, unless it is left by an error. One that cannot be written
    raises at a later item or at the end.
    """
    pending: deque[Future[None]] = deque()
    with _one_thread("headrace-behind") as pool:

        def hand(item: Item) -> None:
            if len(pending) == depth:
                pending.popleft().result()
            pending.append(pool.submit(write, item))

        try:
            yield hand
            while pending:
                pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _one_thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=name)
