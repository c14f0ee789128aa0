import threading
import time
from collections.abc import Iterator

import pytest

from headrace.data.overlap import in_order


def threads() -> int:
    return sum(thread.name.startswith("in-order") for thread in threading.enumerate())


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_order_however_long_each_takes(workers: int) -> None:
    def work(number: int) -> int:
        time.sleep(0.001 * (number * 7 % 5))
        return number * number

    assert list(in_order(work, range(60), threads=workers)) == [number * number for number in range(60)]
    assert threads() == 0


def test_work_overlaps_with_drawing_and_with_other_work() -> None:
    meeting = threading.Barrier(3, timeout=20)

    def items() -> Iterator[int]:
        yield 0
        yield 1
        meeting.wait()  # passes once both items are at work

    assert list(in_order(lambda _: meeting.wait() >= 0, items(), threads=2)) == [True, True]


@pytest.mark.parametrize("ahead", [2, 5])
def test_no_more_is_drawn_than_is_bounded(ahead: int) -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            drawn.append(number)
            yield number

    results = in_order(lambda number: number, items(), threads=2, ahead=ahead)
    for count in range(1, 20):
        next(results)
        assert len(drawn) == count + 2 * ahead
    results.close()
    assert threads() == 0


def test_an_error_comes_in_the_place_of_its_result_and_ends_the_threads() -> None:
    def work(number: int) -> int:
        if number == 5:
            raise ValueError("the fifth")
        return number

    results, seen = in_order(work, range(100), threads=2), []
    with pytest.raises(ValueError, match="the fifth"):
        seen.extend(results)
    assert threads() == 0
    results = in_order(work, range(100), threads=2)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]


def test_an_error_of_the_items_ends_the_threads() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        list(in_order(lambda number: number, items(), threads=2))
    assert threads() == 0
