from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from headrace.data.batch import UNSCORED, Batch
from headrace.errors import TrainingError
from headrace.models import attention, tiling
from headrace.models.gptj import GPTJ
from headrace.models.masks import Mask
from headrace.training import optimizer as optimizers
from headrace.training.config import TrainConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.parallel import ALONE
from headrace.training.schedule import ScheduleConfig
from headrace.training.sharding import place
from headrace.training.step import StepResult, forward, take_step

ROWS, TOKENS = 4, 48


@pytest.fixture
def config(tiny) -> TrainConfig:
    return replace(tiny.config, schedule=ScheduleConfig(kind="constant", peak=0.01))


def fresh_model(config: TrainConfig) -> GPTJ:
    torch.manual_seed(1)
    return GPTJ(config.model)


def some_batch() -> Batch:
    """Two documents a row, the first with a prompt of 9; row r scores 1 + 11 r labels."""
    draw = np.random.default_rng(0)
    tokens_BT = draw.integers(0, 290, (ROWS, TOKENS))
    labels_BT = np.full((ROWS, TOKENS), UNSCORED)
    for row in range(ROWS):
        scored = draw.permutation(np.arange(9, TOKENS - 4))[: 1 + 11 * row]
        labels_BT[row, scored] = draw.integers(0, 290, len(scored))
    segments_BT = np.repeat([[1] * 20 + [2] * 24 + [0] * 4], ROWS, axis=0).astype(np.int32)
    prefix_BT = np.repeat([[True] * 9 + [False] * (TOKENS - 9)], ROWS, axis=0)
    return Batch(tokens_BT, labels_BT, segments_BT, prefix_BT)


def step_from_scratch(config: TrainConfig, batch: Batch) -> tuple[GPTJ, StepResult]:
    model = fresh_model(config)
    return model, take_step(model, optimizers.build(model, config.optimizer), batch, config, 1)


def seen(mask: str) -> torch.Tensor:
    """The rule written out: same document, and behind or in the prompt."""
    batch, rule = some_batch(), torch.zeros(ROWS, TOKENS, TOKENS, dtype=torch.bool)
    for b, i, j in np.ndindex(ROWS, TOKENS, TOKENS):
        same = batch.segments_BT[b, i] == batch.segments_BT[b, j]
        rule[b, i, j] = bool(same and (j <= i or (mask == "prefix" and batch.prefix_BT[b, j])))
    return rule


class Written(Mask):
    """A mask given as a matrix."""

    def dense(self, tokens: int) -> torch.Tensor:
        return self.prefix_BT[:, None]


@pytest.mark.parametrize("mask", ["causal", "prefix"])
@pytest.mark.parametrize("microbatch_rows", [1, 4])
def test_a_step_is_that_of_plain_autograd_on_the_mean_over_all_labels(mask, microbatch_rows: int, config) -> None:
    config = replace(config, mask=mask, microbatch_rows=microbatch_rows, z_loss=0.01)
    expected, batch = fresh_model(config), some_batch().torch()
    logits = expected(batch.tokens_BT, Written(seen(mask)))[batch.labels_BT != UNSCORED]
    entropy = F.cross_entropy(logits, batch.labels_BT[batch.labels_BT != UNSCORED])
    (entropy + 0.01 * torch.logsumexp(logits, -1).square().mean()).backward()
    norm = torch.linalg.vector_norm(torch.cat([p.grad.flatten() for p in expected.parameters()]))
    for parameter in expected.parameters():
        parameter.grad /= max(1.0, norm.item())
    reference = torch.optim.AdamW(
        [{"params": [p], "weight_decay": 0.1 * (p.ndim > 1)} for p in expected.parameters()], lr=0.01, foreach=False
    )
    reference.step()
    model, result = step_from_scratch(config, some_batch())
    for (name, one), other in zip(model.named_parameters(), expected.parameters(), strict=True):
        # Where a gradient is all rounding, Adam's first step is the sign of it.
        told = other.grad.abs() > 1e-6
        torch.testing.assert_close(one[told], other[told], rtol=0, atol=2e-4, msg=name)
    assert result.loss == pytest.approx(entropy.item(), rel=1e-5)
    assert result.grad_norm == pytest.approx(norm.item(), rel=1e-4)
    assert (result.step, result.labels, result.tokens) == (1, 1 + 12 + 23 + 34, ROWS * 44)


def test_split_batch_takes_the_same_step_as_a_whole_one(config) -> None:
    # A large eps makes the update follow the gradient's size, not its sign alone.
    config = replace(config, optimizer=OptimizerConfig(eps=1.0), schedule=ScheduleConfig(kind="constant", peak=5.0))
    whole, split = (step_from_scratch(replace(config, microbatch_rows=rows), some_batch()) for rows in (ROWS, 1))
    for one, other in zip(whole[0].parameters(), split[0].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert whole[1].loss == pytest.approx(split[1].loss, rel=1e-6)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("kind", ["blocks", "tiles"])
@pytest.mark.parametrize("mask", ["causal", "prefix"])
def test_any_attention_takes_the_same_step(kind, mask, config, flex_on_cpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(attention.SUITED, "cpu", kind)
    for name, value in {"FEWEST_TOKENS": 1, "MOST_OF_ROW": 1.0, "QUERIES": 16}.items():
        monkeypatch.setattr(tiling, name, value)
    # A large eps makes the update follow the gradient's size, not its sign alone.
    config = replace(config, mask=mask, optimizer=OptimizerConfig(eps=1.0))
    expected, told = step_from_scratch(config, some_batch())
    model = place(fresh_model(config), ALONE)
    assert (model.attention, expected.attention) == (kind, "dense")
    result = take_step(model, optimizers.build(model, config.optimizer), some_batch(), config, 1)
    assert (result.loss, result.grad_norm) == pytest.approx((told.loss, told.grad_norm), rel=1e-5)
    for one, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


def test_gradients_are_clipped_to_the_norm_over_all_parameters(config) -> None:
    config = replace(config, optimizer=OptimizerConfig(max_grad_norm=0.01, weight_decay=0.0))
    model = fresh_model(config)
    optimizer = optimizers.build(model, config.optimizer)
    result = take_step(model, optimizer, some_batch(), config, 1)
    # After one step the first moment is a tenth of the gradient that was used.
    used = torch.cat([10 * optimizer.state[p]["exp_avg"].flatten() for p in model.parameters()])
    assert torch.linalg.vector_norm(used).item() == pytest.approx(0.01, rel=1e-3)
    assert result.grad_norm > 0.1


def test_a_prompt_is_seen_whole_under_the_prefix_mask_alone(config) -> None:
    batch = some_batch()
    batch.labels_BT[:] = UNSCORED
    batch.labels_BT[:, 2] = 5
    changed = replace(batch, tokens_BT=batch.tokens_BT.copy())
    changed.tokens_BT[:, 8] += 1
    for mask, moves in (("causal", False), ("prefix", True)):
        model = fresh_model(config)
        losses = [forward(model, b.torch(), replace(config, mask=mask)).cross_entropy.item() for b in (batch, changed)]
        assert (losses[0] != losses[1]) == moves


@pytest.mark.parametrize(("weight", "named"), [("head.bias", "loss=nan"), ("layers.0.ff_in.weight", "loss=nan")])
def test_a_loss_that_is_not_finite_ends_the_run_and_changes_nothing(weight: str, named: str, config) -> None:
    model = fresh_model(config)
    with torch.no_grad():
        model.get_parameter(weight).flatten()[0] = torch.nan
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = optimizers.build(model, config.optimizer)
    with pytest.raises(TrainingError, match=f"Step 1,234 has {named}"):
        take_step(model, optimizer, some_batch(), config, 1234)
    assert all(torch.equal(before[n].nan_to_num(), p.nan_to_num()) for n, p in model.named_parameters())
    assert not optimizer.state


def test_a_gradient_that_is_not_finite_ends_the_run(config) -> None:
    model = fresh_model(config)
    model.layers[0].norm.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(TrainingError, match=r"Step 7 has grad_norm=(inf|nan)"):
        take_step(model, optimizers.build(model, config.optimizer), some_batch(), config, 7)


def test_a_step_without_labels_is_refused(config) -> None:
    batch = some_batch()
    batch.labels_BT[:] = UNSCORED
    with pytest.raises(TrainingError, match="Step 1 has no label"):
        step_from_scratch(config, batch)


def test_the_first_step_of_a_warmup_has_rate_zero_and_the_second_has_not(config) -> None:
    config = replace(config, schedule=ScheduleConfig(peak=0.1, warmup_steps=10, decay_steps=10))
    model = fresh_model(config)
    optimizer = optimizers.build(model, config.optimizer)
    rates = [take_step(model, optimizer, some_batch(), config, step).learning_rate for step in (1, 2, 11)]
    assert rates == pytest.approx([0.0, 0.01, 0.1])


def test_bf16_keeps_weights_gradients_and_moments_in_fp32_and_stays_near(config) -> None:
    exact = step_from_scratch(config, some_batch())[1]
    model = fresh_model(config)
    optimizer = optimizers.build(model, config.optimizer)
    rounded = take_step(model, optimizer, some_batch(), replace(config, precision="bf16"), 1)
    assert rounded.loss != exact.loss
    assert rounded.loss == pytest.approx(exact.loss, rel=1e-2)
    assert rounded.grad_norm == pytest.approx(exact.grad_norm, rel=0.05)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {t.dtype for t in optimizers.moments(model, optimizer).values()} == {torch.float32}
