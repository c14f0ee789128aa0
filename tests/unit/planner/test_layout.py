from dataclasses import replace

import pytest

from headrace.cluster.slices import find_slice
from headrace.errors import ConfigError
from headrace.planner.layout import Layout, choose_layout, read_layout
from headrace.training.averaging import AveragingConfig
from headrace.training.mesh import mesh_shape

H100X8 = find_slice("h100x8")


def test_replicas_are_as_many_as_microbatches_and_share_their_weights(make_train) -> None:
    train = make_train(rows=64, microbatch_rows=2)
    assert choose_layout(train, H100X8) == Layout(data=8)
    assert choose_layout(train, find_slice("v5e-128")) == Layout(data=32, tensor=4)
    assert (Layout(data=8).shards, Layout(data=8).microbatches(train)) == (8, 4)


def test_the_last_microbatch_of_a_replica_may_be_smaller(make_train) -> None:
    assert Layout(data=2).microbatches(make_train(rows=12, microbatch_rows=4)) == 2
    assert Layout(data=8).microbatches(make_train(rows=8, microbatch_rows=4)) == 1


@pytest.mark.parametrize("mesh", ["data=4,pipeline=2", "pipeline=2", "tensor=4", "data=8", " data=2, tensor=4"])
def test_a_plan_lays_devices_out_as_a_run_would(mesh: str, make_train) -> None:
    layout = read_layout(mesh, make_train(rows=64, microbatch_rows=2, n_layer=4), H100X8)
    assert {axis: getattr(layout, axis) for axis in ("data", "pipeline", "tensor")} == mesh_shape(mesh, 8)
    assert layout.shards == layout.data
    assert mesh_shape(str(layout), 8) == mesh_shape(mesh, 8)


@pytest.mark.parametrize(
    ("mesh", "told"),
    [
        ("dta=4", "--mesh='dta=4' has dta=4, and an axis is one of data, pipeline, tensor"),
        ("fsdp=8", "has fsdp=8, and an axis is one of"),
        ("data=0", "has data=0, and an axis"),
        ("data=4", "--mesh='data=4' lays out 4 processes or XLA devices, and there are 8"),
        ("data=8", "8 replicas cannot share 12 rows evenly"),
        ("data=1,tensor=8", r"tensor=8 processes cannot share model\.n_head=4 evenly.*in --mesh"),
        ("data=4,pipeline=2", r"pipeline=2 stages cannot share model\.n_layer=3 evenly.*in --mesh"),
        ("data=2,pipeline=2,tensor=2", "has both pipeline and tensor, which do not go together"),
    ],
)
def test_what_a_run_would_refuse_is_not_planned(mesh: str, told: str, make_train) -> None:
    with pytest.raises(ConfigError, match=told):
        read_layout(mesh, make_train(rows=12, microbatch_rows=1, n_layer=3), H100X8)


def test_stages_need_as_many_microbatches_and_xla_has_none(make_train) -> None:
    train = make_train(rows=4, microbatch_rows=2, n_layer=4)
    with pytest.raises(ConfigError, match="1 rows are no 2 microbatches or more of microbatch_rows=2"):
        read_layout("data=4,pipeline=2", train, H100X8)
    with pytest.raises(ConfigError, match="has pipeline=2, and an axis is one of data, tensor with"):
        read_layout("pipeline=2", train, find_slice("v5e-8"))


@pytest.mark.parametrize("degree", ["data", "tensor", "pipeline"])
def test_a_degree_below_one_is_none(degree: str) -> None:
    with pytest.raises(ConfigError, match=f"{degree}=0 is below 1"):
        Layout(**{degree: 0})


def test_a_slice_larger_than_the_batch_and_its_heads_is_refused(make_train) -> None:
    train = make_train(rows=2)
    with pytest.raises(ConfigError, match="v5e-256 has 256 devices for 1 microbatches"):
        choose_layout(train, find_slice("v5e-256"))
    assert choose_layout(replace(train, microbatch_rows=1), H100X8) == Layout(data=2, tensor=4)


def test_workers_who_train_apart_hold_their_weights_whole(make_train) -> None:
    train = make_train(rows=64, microbatch_rows=2, averaging=AveragingConfig(kind="diloco"))
    assert choose_layout(train, H100X8) == read_layout("data=8", train, H100X8) == Layout(data=8, apart=True)
    assert Layout(data=8, apart=True).shards == 1
    with pytest.raises(ConfigError, match=r"--mesh has tensor=2, and with train\.averaging every process holds"):
        read_layout("data=4,tensor=2", train, H100X8)
    with pytest.raises(ConfigError, match="8 replicas cannot share 12 rows evenly"):
        choose_layout(replace(train, data=replace(train.data, rows=12)), H100X8)
