"""Predicted bytes beside real tensors on the CPU, whose allocations torch's profiler and saved tensors tell."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from headrace.data.batch import Batch
from headrace.models.gptj import GPTJ
from headrace.models.masks import packed_causal
from headrace.planner.layout import Layout
from headrace.planner.measure import random_batch
from headrace.planner.memory import Execution, Memory, predict_memory, saved_by_layer
from headrace.training import optimizer as optimizers
from headrace.training.averaging import AveragingConfig, CompressionConfig
from headrace.training.link import Link
from headrace.training.step import take_step
from headrace.training.synchronizers import synchronizer

ALONE = Execution(layout=Layout())
BY_TILES = replace(ALONE, attention="tiles")


def packed_batch(train) -> Batch:
    """The rows that a machine is measured on."""
    return random_batch(train, np.random.default_rng(0))


def saved_bytes(train, attention: str = "dense") -> int:
    """Bytes of all storages that the forward pass keeps for the backward pass, weights left out."""
    torch.manual_seed(0)
    model = GPTJ(train.model)
    model.attention = attention
    own = {p.untyped_storage().data_ptr() for p in [*model.parameters(), model.turns]}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    batch = packed_batch(train).torch()
    bf16 = torch.autocast("cpu", torch.bfloat16, enabled=train.precision == "bf16")
    # Autocast's copies of weights are counted apart.
    cast = {tuple(p.shape)[::-1] for p in model.layers.parameters() if p.ndim == 2}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), bf16:
        model.hidden(batch.tokens_BT, packed_causal(batch.segments_BT))
    return sum(
        t.untyped_storage().nbytes()
        for t in kept.values()
        if not (t.dtype == torch.bfloat16 and t.ndim == 2 and tuple(t.shape) in cast)
    )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("shape", [{"d_ff": 200}, {"d_model": 96, "n_head": 2, "d_ff": 200, "context": 96, "rows": 2}])
def test_a_layer_saves_what_the_module_saves(precision: str, shape, make_train) -> None:
    train = make_train(precision=precision, **shape)
    one, two = (saved_bytes(replace(train, model=replace(train.model, n_layer=n))) for n in (1, 2))
    assert saved_by_layer(train, ALONE) == two - one


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("context", [128, 320, 1024])
def test_attention_by_tiles_saves_what_it_saves(precision: str, context: int, make_train) -> None:
    train = make_train(precision=precision, context=context, rows=3, d_model=96, n_head=6, d_ff=200)
    one, two = (saved_bytes(replace(train, model=replace(train.model, n_layer=n)), "tiles") for n in (1, 2))
    assert saved_by_layer(train, BY_TILES) == two - one


def peak_of_a_step(train, recompute: str = "none", attention: str = "dense") -> int:
    """Most bytes alive in the second step beyond what was there before it."""
    model = GPTJ(train.model)
    model.recompute, model.attention = recompute, attention
    optimizer = optimizers.build(model, train.optimizer)
    batch = packed_batch(train)
    take_step(model, optimizer, batch, train, 1)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        take_step(model, optimizer, batch, train, 2)
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


@pytest.mark.parametrize(
    "shape",
    [
        {"rows": 8, "context": 128, "d_model": 128, "d_ff": 512},  # activations weigh most
        {"rows": 8, "context": 128, "microbatch_rows": 4},  # gradients stand while the second microbatch runs
        {"rows": 2, "context": 16, "d_model": 256, "d_ff": 1024},  # gradients weigh most
        {"rows": 2, "context": 64, "vocab_size": 50_400},  # the head weighs most
        {"rows": 2, "context": 64, "vocab_size": 50_400, "microbatch_rows": 1},
    ],
)
def test_a_step_holds_at_most_what_was_predicted(shape, make_train) -> None:
    train = make_train(**shape)
    predicted = predict_memory(train, ALONE)
    beyond = predicted.tensors - predicted.weights - predicted.moments - predicted.batches
    assert beyond == pytest.approx(peak_of_a_step(train), rel=0.05)


@pytest.mark.parametrize("rows", [2, 8])
def test_a_step_by_tiles_holds_at_most_what_was_predicted(rows: int, make_train) -> None:
    train = make_train(rows=rows, context=512, d_model=64, n_head=4, d_ff=128, n_layer=6)
    predicted = predict_memory(train, BY_TILES)
    beyond = predicted.tensors - predicted.weights - predicted.moments - predicted.batches
    assert beyond == pytest.approx(peak_of_a_step(train, attention="tiles"), rel=0.05)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("policy", ["selective", "layers"])
def test_a_step_that_computes_again_holds_as_much_less(policy: str, precision: str, make_train) -> None:
    pytest.importorskip("headrace.models.recompute")
    train = make_train(rows=8, context=128, d_model=128, d_ff=512, n_layer=6, precision=precision)
    predicted = predict_memory(train, replace(ALONE, recompute=policy))
    beyond = predicted.tensors - predicted.weights - predicted.moments - predicted.batches
    assert beyond == pytest.approx(peak_of_a_step(train, policy), rel=0.08)


def test_weights_gradients_and_moments_are_those_of_real_tensors(make_train) -> None:
    train = make_train(rows=4, microbatch_rows=2)
    model = GPTJ(train.model)
    optimizer = optimizers.build(model, train.optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    gradients = sum(p.grad.nbytes for p in model.parameters())
    optimizer.step()
    predicted = predict_memory(train, ALONE)
    assert predicted.weights == sum(p.nbytes for p in model.parameters())
    assert predicted.gradients == gradients
    moments = optimizers.moments(model, optimizer)
    assert predicted.moments == sum(t.nbytes for name, t in moments.items() if not name.endswith("step"))


def test_sharing_divides_and_recompute_lightens(make_train) -> None:
    train = make_train(rows=16, microbatch_rows=1, precision="bf16", n_layer=4)

    def predict(recompute="none", **degrees: int | bool) -> Memory:
        return predict_memory(train, Execution(layout=Layout(**degrees), recompute=recompute))

    alone = predict()
    assert predict(data=4).moments == alone.moments // 4
    assert predict(data=4, apart=True).moments == alone.moments
    assert predict(tensor=2).activations < alone.activations
    assert predict(pipeline=2).weights == alone.weights // 2
    policies = [predict(policy) for policy in ("none", "selective", "layers")]
    for heavier, lighter in pairwise(policies):
        assert lighter.activations < heavier.activations
        assert lighter.total < heavier.total


OUTER = CompressionConfig(outer_momentum=0.5)


@pytest.mark.parametrize(
    "averaging",
    [
        *(AveragingConfig(kind=kind) for kind in ("proxskip", "diloco", "compressed")),
        AveragingConfig(kind="compressed", compression=OUTER),
    ],
)
def test_workers_who_train_apart_keep_what_their_synchronizer_saves(averaging: AveragingConfig, make_train) -> None:
    train = make_train(averaging=averaging)
    model = GPTJ(train.model)
    kept = synchronizer(model, optimizers.build(model, train.optimizer), train.averaging, Link()).state()
    assert predict_memory(train, ALONE).averaging == sum(tensor.nbytes for tensor in kept.values() if tensor.ndim)
    assert predict_memory(make_train(), ALONE).averaging == 0
