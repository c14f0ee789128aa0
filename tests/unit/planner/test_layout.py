from dataclasses import replace

import pytest

from headrace.cluster.slices import find_slice
from headrace.errors import ConfigError
from headrace.planner.layout import Layout, check_layout, choose_layout, parse_layout
from headrace.training.averaging import AveragingConfig


def test_replicas_are_as_many_as_microbatches_and_share_their_weights(make_train) -> None:
    train = make_train(rows=64, microbatch_rows=2)
    assert choose_layout(train, find_slice("h100x8")) == Layout(fsdp=8)
    assert choose_layout(train, find_slice("v5e-128")) == Layout(fsdp=32, tensor=4)
    assert Layout(fsdp=8).microbatches(train) == 4


def test_the_layout_of_gptjt_is_read_and_said() -> None:
    layout = parse_layout("data=4, pipeline=2")
    assert layout == Layout(data=4, pipeline=2)
    assert (layout.devices, layout.replicas) == (8, 4)
    assert str(layout) == "4 data × 2 pipeline"
    assert str(Layout()) == "one device"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("dta=4", "has an axis 'dta'. Did you mean 'data'?"),
        ("data=four", "has data='four', which is no number"),
        ("data=0", "data=0 is below 1"),
        ("", "has an axis ''"),
    ],
)
def test_a_layout_that_means_nothing_is_refused(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        parse_layout(text)


@pytest.mark.parametrize(
    ("layout", "told"),
    [
        (Layout(data=4), "takes 4 devices and h100x8 has 8"),
        (Layout(data=8), "8 replicas do not divide the 12 microbatches of rows=12 by microbatch_rows=1"),
        (Layout(data=1, tensor=8), "8 devices do not divide n_head=4"),
        (Layout(data=4, pipeline=2), "pipeline=2 does not divide n_layer=3"),
        (Layout(data=2, pipeline=2, tensor=2), "has both tensor and pipeline, which no run takes"),
    ],
)
def test_degrees_divide_what_they_share(layout: Layout, told: str, make_train) -> None:
    with pytest.raises(ConfigError, match=told):
        check_layout(layout, make_train(rows=12, microbatch_rows=1), find_slice("h100x8"))


def test_a_slice_larger_than_the_batch_and_its_heads_is_refused(make_train) -> None:
    train = make_train(rows=2)
    with pytest.raises(ConfigError, match="v5e-256 has 256 devices for 1 microbatches"):
        choose_layout(train, find_slice("v5e-256"))
    assert choose_layout(replace(train, microbatch_rows=1), find_slice("h100x8")) == Layout(fsdp=2, tensor=4)


def test_workers_who_train_apart_hold_their_weights_whole(make_train) -> None:
    train = make_train(rows=64, microbatch_rows=2, averaging=AveragingConfig(kind="diloco"))
    assert choose_layout(train, find_slice("h100x8")) == Layout(data=8)
    with pytest.raises(ConfigError, match=r"averaging\.kind='diloco' .* Give data=8, or averaging\.kind=none"):
        check_layout(Layout(data=4, tensor=2), train, find_slice("h100x8"))
