"""Steps that would do harm."""

import json
import math
import random
import statistics
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace import storage
from headrace.artifacts import LEDGER_FILE, MODEL_FILE, Checkpoint
from headrace.data.ledger import Ledger
from headrace.errors import ConfigError, TrainingError
from headrace.tracking import Tracker
from headrace.training import loop
from headrace.training.guard import Guard, GuardConfig, bounds
from headrace.training.inputs import open_inputs
from headrace.training.logs import LOSS_FILE, SKIPPED_FILE
from headrace.training.loop import train
from headrace.training.optimizer import moments
from headrace.training.run import Run
from headrace.training.step import StepResult, take_step


class Crash(Exception):
    """What ends a run from without."""


class Recorder(Tracker):
    """Remembers, and may crash at a step."""

    def __init__(self, crash_at: int = 0) -> None:
        self.crash_at, self.marks, self.measured = crash_at, {}, []

    def tags(self, values) -> None:
        self.marks.update(values)

    def metrics(self, values, step=None) -> None:
        self.measured.append((step, dict(values)))
        if step == self.crash_at:
            raise Crash


def harm(steps: Collection[int], factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply the gradient of one weight at some steps, whenever they are taken."""

    def sabotaged(
        model: Any, optimizer: Any, batch: Any, config: Any, step: int, *rest: Any, **more: Any
    ) -> StepResult:
        if step not in steps:
            return take_step(model, optimizer, batch, config, step, *rest, **more)
        hook = model.layers[0].norm.weight.register_hook(lambda gradient: gradient * factor)
        try:
            return take_step(model, optimizer, batch, config, step, *rest, **more)
        finally:
            hook.remove()

    monkeypatch.setattr(loop, "take_step", sabotaged)


def run(tiny, folder: Path, tracker: Tracker, guard: GuardConfig, **changes: Any) -> None:
    settings = {"steps": 40, "checkpoint_every_steps": 6, "log_every_steps": 1, "guard": guard} | changes
    train(**tiny.arguments(folder / "out", folder / "work", config=replace(tiny.config, **settings)), tracker=tracker)


def lines(folder: Path, name: str) -> list[dict[str, Any]]:
    (path,) = folder.glob(f"work/*/{name}")
    return [json.loads(line, parse_constant=pytest.fail) for line in path.read_text().splitlines()]


def test_bounds_are_those_of_plain_statistics_and_one_wild_value_moves_them_little() -> None:
    draw = random.Random(0)
    values = [draw.gauss(3.0, 0.5) for _ in range(501)]
    usual, limit = bounds(values, 4)
    assert usual == pytest.approx(statistics.fmean(values), abs=0.1)
    assert limit == pytest.approx(statistics.fmean(values) + 4 * statistics.stdev(values), abs=0.3)
    assert bounds([*values, 1e30], 4)[1] == pytest.approx(limit, rel=0.01)
    assert bounds([2.0] * 50, 10) == (2.0, pytest.approx(2.2))


def test_a_spike_is_told_from_what_is_usual_once_the_window_is_full() -> None:
    guard = Guard(GuardConfig(skips=5, deviations=6, window_steps=8))
    for step in range(1, 8):
        guard.record(step, loss=2.0 + step / 100, grad_norm=1.0, skipped=False)
    assert not guard.objection(8, loss=9.0, grad_norm=1.0)
    guard.record(8, loss=2.0, grad_norm=1.0, skipped=False)
    assert guard.objection(9, loss=9.0, grad_norm=1.0).startswith("loss=9, above 2.")
    assert guard.objection(9, loss=2.0, grad_norm=1.1).startswith("grad_norm=1.1, above 1.06 with a median of 1 ")
    assert not guard.objection(9, loss=2.1, grad_norm=1.05)
    assert not guard.objection(9, loss=0.0, grad_norm=0.0)


def test_a_skipped_step_leaves_weights_and_moments_and_uses_its_batch_up(tiny, monkeypatch) -> None:
    inputs = open_inputs(tiny.sources, tiny.tokenizer, None, tiny.config)
    config = replace(tiny.config, guard=GuardConfig(skips=2))
    ours, other = Run(inputs, config), Run(inputs, config)
    harm({2, 3}, math.inf, monkeypatch)
    for number, batch in zip(range(1, 4), ours.batches(), strict=False):
        before = moments(ours.model, ours.optimizer)
        before = {name: tensor.clone() for name, tensor in (before | ours.model.state_dict()).items()}
        ours.record(loop.take_step(ours.model, ours.optimizer, batch, config, number, guard=ours.guard))
        after = moments(ours.model, ours.optimizer) | ours.model.state_dict()
        assert (number > 1) == (before.keys() == after.keys() and all(torch.equal(before[n], after[n]) for n in after))
        assert all(parameter.grad is None for parameter in ours.model.parameters())
    for _ in zip(range(3), other.batches(), strict=False):
        pass
    assert ours.contents(resumable=True).state["data"] == other.contents(resumable=True).state["data"]
    assert (ours.step, ours.guard.skipped) == (3, [2, 3])


def test_a_skipped_step_is_recorded_with_its_documents_and_the_run_goes_on(tiny, tmp_path: Path, monkeypatch) -> None:
    harm({5, 9}, math.nan, monkeypatch)
    recorder = Recorder()
    run(tiny, tmp_path, recorder, GuardConfig(skips=2))
    skipped = lines(tmp_path, SKIPPED_FILE)
    assert [line["step"] for line in skipped] == [5, 9]
    assert all(line["grad_norm"] is None and "grad_norm=nan" in line["skipped"] for line in skipped)
    ledger = Ledger(tmp_path / "out" / LEDGER_FILE)
    for line in skipped:
        fed = [(r.row, r.source, r.document, [r.start, r.stop]) for r in ledger.of_step(line["step"])]
        assert [tuple(part.values()) for part in line["documents"]] == fed
    logged = lines(tmp_path, LOSS_FILE)
    assert [line["step"] for line in logged if "skipped" in line] == [5, 9]
    assert recorder.marks == {"headrace.skipped_steps": "5, 9"}
    told = dict((step, values) for step, values in recorder.measured if "skipped_steps" in values)
    assert told == {5: {"skipped_steps": 1}, 9: {"skipped_steps": 2}}
    assert all(math.isfinite(value) for _, values in recorder.measured for value in values.values())
    facts = storage.read(tmp_path / "out", Checkpoint).facts
    assert facts.step == 40
    assert facts.tokens_seen == sum(line["tokens"] for line in logged if "skipped" not in line)


@pytest.mark.parametrize("crash_at", [3, 15, 26, 33])
def test_a_run_that_skips_is_resumed_to_the_same_bits(crash_at: int, tiny, tmp_path: Path, monkeypatch) -> None:
    harm({1, 2, 14, 15, 25, 31}, 300.0, monkeypatch)
    guard = GuardConfig(skips=9, deviations=4.0, window_steps=8)
    run(tiny, tmp_path / "straight", Recorder(), guard, checkpoint_every_steps=2)
    with pytest.raises(Crash):
        run(tiny, tmp_path / "resumed", Recorder(crash_at), guard, checkpoint_every_steps=2)
    run(tiny, tmp_path / "resumed", Recorder(), guard, checkpoint_every_steps=2)
    for name in (LOSS_FILE, SKIPPED_FILE):
        assert lines(tmp_path / "straight", name) == lines(tmp_path / "resumed", name)
    assert {14, 25, 31} <= {line["step"] for line in lines(tmp_path / "straight", SKIPPED_FILE)}
    one, other = (storage.verify(tmp_path / name / "out").digest for name in ("straight", "resumed"))
    assert one == other


def test_a_run_whose_first_steps_were_skipped_is_resumed(tiny, tmp_path: Path, monkeypatch) -> None:
    harm({1, 2, 3}, math.inf, monkeypatch)
    with pytest.raises(Crash):
        run(tiny, tmp_path, Recorder(3), GuardConfig(skips=3), checkpoint_every_steps=1)
    run(tiny, tmp_path, Recorder(), GuardConfig(skips=3), checkpoint_every_steps=1)
    assert [line["step"] for line in lines(tmp_path, SKIPPED_FILE)] == [1, 2, 3]
    assert (tmp_path / "out" / MODEL_FILE).exists()


@pytest.mark.parametrize(
    ("guard", "harmed", "ends_at", "rule"),
    [
        (GuardConfig(), {4}, 4, r"guard\.skips=0 lets none"),
        (GuardConfig(skips=2), {4, 8, 11}, 11, r"as 2 were, and guard\.skips=2"),
        (GuardConfig(skips=9, skips_in_a_row=2), {3, 4, 8, 9, 10}, 10, r"2 before it were skipped"),
    ],
)
def test_too_many_end_the_run_with_nothing_sealed(
    guard: GuardConfig, harmed: set[int], ends_at: int, rule: str, tiny, tmp_path: Path, monkeypatch
) -> None:
    harm(harmed, math.nan, monkeypatch)
    with pytest.raises(TrainingError, match=rf"^Step {ends_at} has grad_norm=nan.* {rule}"):
        run(tiny, tmp_path, Recorder(), guard)
    assert not (tmp_path / "out").exists()
    assert [line["step"] for line in lines(tmp_path, LOSS_FILE)] == list(range(1, ends_at))


@pytest.mark.parametrize("values", [{"skips": -1}, {"deviations": -1.0}, {"skips_in_a_row": 0}, {"window_steps": 7}])
def test_a_guard_that_means_nothing_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="need to be at least 0, 0, 1 and 8"):
        GuardConfig(**values)


def test_a_guard_that_may_skip_every_step_is_refused(tiny) -> None:
    with pytest.raises(ConfigError, match=r"guard\.skips=20 lets all of steps=20 be skipped"):
        replace(tiny.config, guard=GuardConfig(skips=20))
