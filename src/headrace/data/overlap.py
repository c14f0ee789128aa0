"""Work on a stream in threads beside the one that draws it: in order, bounded, and over when it is left.

What the threads call must release Python's lock to gain anything: encoding, hashing and writing do.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def in_order(
    work: Callable[[Item], Made], items: Iterable[Item], *, threads: int, ahead: int = 2
) -> Generator[Made, None, None]:
    """Yield `work` of each item, in order, while later ones are at work or wait.

    Items are drawn by the calling thread, at most `ahead` for each thread ahead of what was yielded, so memory
    stays flat. An error of `work` is raised in the place of its result. Closing the iterator, or an error,
    leaves no thread behind; what had begun by then is waited for.
    """
    pending: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="in-order") as pool:
        try:
            for item in items:
                pending.append(pool.submit(work, item))
                if len(pending) > ahead * threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)
