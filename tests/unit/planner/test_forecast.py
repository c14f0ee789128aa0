from dataclasses import replace

import pytest

from headrace.cluster.slices import find_slice
from headrace.models.size import count_parameters
from headrace.planner.forecast import forecast
from headrace.planner.layout import Layout
from headrace.planner.memory import Execution
from headrace.training.work import count_work

H100X8 = find_slice("h100x8")


def execution(recompute="none", **degrees: int | bool) -> Execution:
    return Execution(layout=Layout(**degrees), recompute=recompute)


def test_a_step_takes_its_operations_at_the_rate_reckoned_with(make_train) -> None:
    # Wide rows, so that computation outweighs communication.
    train = make_train(rows=4096, context=512, microbatch_rows=512, precision="bf16", d_model=512, d_ff=2048)
    told = forecast(train, H100X8, execution(data=8), utilization=0.5)
    seconds = count_work(train).flops / (8 * 989e12 * 0.5)
    assert told.communication_seconds < seconds
    assert told.step_seconds == pytest.approx(seconds)
    assert told.mfu == pytest.approx(0.5)
    assert told.tokens_per_second == pytest.approx(4096 * 512 / seconds)
    assert told.total_seconds == pytest.approx(train.steps * seconds)


def test_computing_twice_takes_a_third_longer_and_lowers_the_models_share(make_train) -> None:
    train = make_train(rows=64, context=512, precision="bf16")
    once, twice = (forecast(train, find_slice("h100x1"), execution(kind)) for kind in ("none", "layers"))
    assert twice.step_seconds == pytest.approx(4 / 3 * once.step_seconds)
    assert twice.mfu == pytest.approx(0.75 * once.mfu)


def test_a_pipeline_waits_while_it_fills(make_train) -> None:
    train = make_train(rows=64, microbatch_rows=1, precision="bf16", n_layer=4)
    told = forecast(train, H100X8, execution(data=4, pipeline=2))
    assert told.idle_share == pytest.approx(1 / 17)  # 16 microbatches through 2 stages
    assert told.step_seconds == pytest.approx(max(told.compute_seconds, told.communication_seconds) * 17 / 16)


def test_what_is_sent_follows_from_the_layout(make_train) -> None:
    train = make_train(rows=64, microbatch_rows=4, precision="bf16")
    weights, link = count_parameters(train.model).total, 450e9

    def sent(**degrees: int | bool) -> float:
        return forecast(train, H100X8, execution(**degrees)).communication_seconds * link

    assert sent(data=8, apart=True) == pytest.approx(2 * 7 / 8 * weights * 4)
    assert sent(data=8) == pytest.approx(7 / 8 * weights * (2 * 2 * 2 + 4))  # two microbatches, gathered twice each
    residual = 4 * 64 * train.model.d_model * 2
    shared = sent(data=2, tensor=4) - 1 / 2 * weights / 4 * (2 * 2 * 8 + 4)
    assert shared == pytest.approx(2 * 3 / 4 * residual * 2 * train.model.n_layer * 8)


def test_links_slower_than_products_set_the_pace(make_train) -> None:
    train = make_train(rows=8, microbatch_rows=1, precision="bf16", d_model=512, d_ff=2048)
    told = forecast(train, find_slice("l4x8"), execution(data=8))
    assert told.step_seconds == told.communication_seconds > told.compute_seconds


def test_a_rate_that_nobody_published_gives_no_time(make_train) -> None:
    train = make_train(precision="fp32")
    assert forecast(train, find_slice("v5e-1"), execution()).step_seconds is None
    assert forecast(replace(train, precision="bf16"), find_slice("v5e-1"), execution()).step_seconds
    assert forecast(train, find_slice("cpu"), execution()).total_seconds is None
