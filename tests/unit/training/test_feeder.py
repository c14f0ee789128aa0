from dataclasses import replace

import numpy as np
import pytest

from headrace.data.batch import Batch
from headrace.training.averaging import AveragingConfig
from headrace.training.inputs import open_inputs
from headrace.training.run import Run

ROWS, STEPS = 12, 6


@pytest.fixture
def run(tiny) -> Run:
    config = replace(tiny.with_data(rows=ROWS), steps=STEPS, averaging=AveragingConfig(kind="diloco"))
    return Run(open_inputs(tiny.sources, tiny.tokenizer, None, config), config)


def read(run: Run) -> list[Batch]:
    return list(run.batches())


def equal(one: Batch, other: Batch) -> bool:
    return one.tokens_BT.shape == other.tokens_BT.shape and np.array_equal(one.tokens_BT, other.tokens_BT)


def test_rows_are_shared_out_anew_between_two_steps_and_no_batch_is_lost(run: Run) -> None:
    whole = read(Run(run.inputs, run.config))
    link = run.replicas.link
    assert link is not None
    batches = run.batches()
    # This worker is number 0; who shares the rows with it changes after the first step and after the fourth.
    sharers = {1: (0,), 2: (7, 0), 5: (3, 8, 0)}
    for step, expected in enumerate(whole, start=1):
        link.sharers = sharers.get(step, link.sharers)
        parts = len(link.sharers)
        first = link.sharers.index(0) * ROWS // parts
        assert equal(next(batches), expected.rows(first, first + ROWS // parts))


def test_what_was_fed_are_the_rows_of_those_who_finished_the_step(run: Run) -> None:
    link = run.replicas.link
    assert link is not None
    link.sharers = (4, 0, 6, 8, 9)  # twelve rows in six parts, of which the last is nobody's
    next(run.batches())
    link.counted = (0, 6, 9)
    assert set(run.feeder.fed().rows_N.tolist()) == {2, 3, 4, 5, 8, 9}
