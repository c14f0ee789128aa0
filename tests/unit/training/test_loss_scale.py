from dataclasses import replace
from pathlib import Path

import pytest
import torch

from headrace import checkpoints
from headrace.errors import TrainingError
from headrace.tracking import Tracker
from headrace.training import loss_scale
from headrace.training.inputs import open_inputs
from headrace.training.loop import train
from headrace.training.loss_scale import LossScale
from headrace.training.run import Run
from headrace.training.step import StepResult, take_step


@pytest.fixture
def run(tiny) -> Run:
    config = replace(tiny.config, precision="fp16")
    return Run(open_inputs(tiny.sources, tiny.tokenizer, None, config), config)


def step(run: Run, precision: str, scale: LossScale | None) -> StepResult:
    batch, config = next(run.batches()), replace(run.config, precision=precision)
    return take_step(run.model, run.optimizer, batch, config, 1, scale=scale)


def overflow_above(run: Run, factor: float) -> None:
    """Let a gradient that was scaled by more than `factor` overflow, as fp16's do."""
    weight = run.model.layers[0].out.weight
    weight.register_hook(lambda gradient: gradient * (torch.inf if run.scale.factor > factor else 1.0))


def test_a_step_in_fp16_is_near_one_in_fp32_and_its_scale_leaves_no_trace(tiny, run: Run) -> None:
    scaled = step(run, "fp16", LossScale())
    exact = step(Run(run.inputs, run.config), "fp32", None)
    assert scaled.loss == pytest.approx(exact.loss, rel=1e-3)
    assert scaled.grad_norm == pytest.approx(exact.grad_norm, rel=1e-2)


def test_a_gradient_that_overflows_halves_the_scale_and_loses_no_batch(run: Run) -> None:
    expected = step(Run(run.inputs, run.config), "fp16", LossScale(factor=8192.0))
    overflow_above(run, 8192.0)
    taken = step(run, "fp16", run.scale)
    assert run.scale == LossScale(factor=8192.0, good_steps=1)
    assert (taken.loss, taken.labels) == (expected.loss, expected.labels)
    assert taken.grad_norm == pytest.approx(expected.grad_norm, rel=1e-6)


def test_a_gradient_that_overflows_at_any_scale_ends_the_run(run: Run) -> None:
    overflow_above(run, 0.5)
    with pytest.raises(TrainingError, match=r"Step 1 has grad_norm=(inf|nan)"):
        step(run, "fp16", run.scale)
    assert run.scale.factor == 1.0


def test_a_scale_that_has_served_well_doubles_up_to_a_bound() -> None:
    scale = LossScale()
    for _ in range(loss_scale.STEPS_TO_DOUBLE):
        assert scale.factor == 32768.0
        scale.count_step()
    assert scale == LossScale(factor=65536.0, good_steps=0)
    highest = LossScale(loss_scale.LARGEST, loss_scale.STEPS_TO_DOUBLE - 1)
    highest.count_step()
    assert highest.factor == loss_scale.LARGEST


def test_a_run_goes_on_with_the_scale_it_had(tiny, tmp_path: Path) -> None:
    config = replace(tiny.config, precision="fp16", steps=4, checkpoint_every_steps=2)
    train(**tiny.arguments(tmp_path / "out", tmp_path / "work", config=config), tracker=Tracker())
    (saved,) = (tmp_path / "work").glob("*/step-00000002")
    resumed = Run(open_inputs(tiny.sources, tiny.tokenizer, None, config), config)
    resumed.restore(saved)
    assert checkpoints.read_state(saved)["loss_scale"]["good_steps"] == 2
    assert resumed.scale == LossScale(good_steps=2)
