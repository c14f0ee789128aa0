"""Batches hold everything once, and no more than they may."""

import itertools
import random
from collections.abc import Callable

import pytest

from headrace.evaluation.batching import Size, batches


def test_batches_hold_every_index_once_and_no_more_than_they_may() -> None:
    draw = random.Random(0)
    sizes = [Size(draw.randint(1, 40), draw.randint(0, 10)) for _ in range(200)]
    made = list(batches(sizes, 300, context_tokens=45))
    assert sorted(index for batch in made for index in batch) == list(range(200))
    for batch in made:
        read, new = max(sizes[i].read for i in batch), max(sizes[i].new for i in batch)
        assert len(batch) == 1 or (len(batch) * (read + new) <= 300 and read + new <= 45)


@pytest.mark.parametrize(("padded", "room"), [(True, lambda row: len(row) * max(row)), (False, sum)])
def test_a_batch_is_ended_only_by_what_would_not_fit(padded: bool, room: Callable[[list[int]], int]) -> None:
    draw = random.Random(1)
    lengths = [draw.randint(1, 90) for _ in range(200)]
    made = [[lengths[i] for i in batch] for batch in batches([Size(n) for n in lengths], 100, padded=padded)]
    assert [n for batch in made for n in batch] == sorted(lengths, reverse=True)
    assert all(len(batch) == 1 or room(batch) <= 100 for batch in made)
    assert all(room([*batch, after[0]]) > 100 for batch, after in itertools.pairwise(made))


def test_what_is_longer_than_a_batch_is_one_by_itself() -> None:
    assert list(batches([Size(3), Size(500), Size(2)], 5, padded=False)) == [[1], [0, 2]]
