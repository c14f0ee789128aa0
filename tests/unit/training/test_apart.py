"""Whole runs of workers that train apart, over gloo: what they publish, what they save, and how they go on."""

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from headrace import checkpoints, storage
from headrace.artifacts import LEDGER_FILE, MODEL_FILE, OPTIMIZER_FILE
from headrace.data.ledger import Ledger
from headrace.errors import ConfigError, Interrupted
from headrace.models.gptj import GPTJ
from headrace.tracking import Tracker
from headrace.training import loop
from headrace.training import optimizer as optimizers
from headrace.training.averaging import AveragingConfig
from headrace.training.config import TrainConfig
from headrace.training.feeder import even_parts
from headrace.training.guard import GuardConfig
from headrace.training.inputs import open_inputs
from headrace.training.logs import SKIPPED_FILE
from headrace.training.loop import train
from headrace.training.optimizer import OptimizerConfig
from headrace.training.parallel import Replicas
from headrace.training.run import Run
from headrace.training.step import StepResult, take_step
from headrace.training.traffic import TRAFFIC_FILE
from headrace.training.worker_files import AVERAGING_FILE, file_of
from tests.unit.training.averagings import DILOCO, KINDS
from tests.unit.training.together import losses, start, together

WORLD, STEPS, EVERY = 2, 10, 4
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def config(tiny) -> TrainConfig:
    # A large eps makes Adam follow a gradient's size: of one that is all rounding it would follow the sign.
    optimizer = OptimizerConfig(eps=1e-3, weight_decay=0.1)
    return replace(tiny.config, steps=STEPS, checkpoint_every_steps=EVERY, optimizer=optimizer, averaging=DILOCO)


class Trial:
    """One run's directories."""

    def __init__(self, tiny: Any, config: TrainConfig, root: Path) -> None:
        self.out, self.work = root / "out", root / "work"
        self.arguments = tiny.arguments(self.out, self.work, config=config)

    def finish(self, world: int = WORLD, function: Callable[..., Any] | None = None, *more: Any) -> "Trial":
        together(world, function or work, self.arguments, *more)
        return self

    def taken(self) -> int:
        return sum(path.read_bytes().count(b"\n") for path in self.work.glob("*/losses.jsonl"))

    def saved(self, step: int) -> Path:
        (path,) = self.work.glob(f"*/step-{step:08d}")
        return path

    def lines(self, name: str) -> list[dict[str, Any]]:
        (path,) = self.work.glob(f"*/{name}")
        return [json.loads(line) for line in path.read_text().splitlines()]


def work(arguments: dict[str, Any]) -> None:
    train(**arguments, tracker=Tracker())


def slowly(arguments: dict[str, Any]) -> None:
    """Train at a pace at which a run can be killed in its midst."""
    loop.take_step = lambda *given, **more: (time.sleep(0.03), take_step(*given, **more))[1]
    work(arguments)


@pytest.mark.parametrize("averaging", KINDS, ids=lambda averaging: averaging.kind)
def test_killed_workers_go_on_to_the_same_bits(averaging: AveragingConfig, tiny, config, tmp_path: Path) -> None:
    config = replace(config, averaging=averaging, steps=14)
    straight = Trial(tiny, config, tmp_path / "straight").finish()
    killed = Trial(tiny, config, tmp_path / "killed")
    workers, deadline = start(WORLD, slowly, killed.arguments), time.monotonic() + PATIENCE_SECONDS
    while killed.taken() < 2 * EVERY + 1:
        assert time.monotonic() < deadline
        time.sleep(0.002)
    for worker in workers:
        worker.kill()
        worker.join()
    assert not killed.out.exists()
    killed.finish()
    assert losses(killed.work) == losses(straight.work)
    for one, other in ((killed.out, straight.out), (killed.saved(12), straight.saved(12))):
        assert storage.verify(one).digest == storage.verify(other).digest
    one, other = (load_file(straight.saved(12) / file_of(rank)) for rank in range(WORLD))
    assert any(not torch.equal(one[name], other[name]) for name in one)


def test_a_run_is_that_of_two_models_stepped_and_averaged_by_hand(tiny, config, tmp_path: Path) -> None:
    trial = Trial(tiny, config, tmp_path).finish()
    inputs = open_inputs(tiny.sources, tiny.tokenizer, None, config)
    plain = replace(config, averaging=AveragingConfig())
    batches = [Run(inputs, plain, Replicas(rank=rank, world=WORLD)).batches() for rank in range(WORLD)]
    torch.manual_seed(config.seed)
    models = [GPTJ(config.model)]
    models.append(GPTJ(config.model))
    models[1].load_state_dict(models[0].state_dict())
    optimizer = [optimizers.build(model, config.optimizer) for model in models]
    momentum = [torch.zeros_like(p) for p in models[0].parameters()]
    for step in range(1, STEPS + 1):
        rows = [next(of) for of in batches]
        if step <= DILOCO.synchronous_steps:
            rows = [join(rows)] * WORLD
        results = [take_step(*each, plain, step) for each in zip(models, optimizer, rows, strict=True)]
        told = sum(r.loss * r.labels for r in results) / sum(r.labels for r in results)
        assert trial.lines("losses.jsonl")[step - 1]["loss"] == pytest.approx(told, rel=1e-5)
        if step <= DILOCO.synchronous_steps:
            common = [p.detach().clone() for p in models[0].parameters()]
        elif (step - DILOCO.synchronous_steps) % DILOCO.every_steps == 0:
            for x, m, one, other in zip(common, momentum, *(model.parameters() for model in models), strict=True):
                outer = x - (one.detach() + other.detach()) / 2
                m.mul_(0.9).add_(outer)
                x -= 0.7 * (outer + 0.9 * m)
                one.data.copy_(x)
                other.data.copy_(x)
    published = load_file(trial.out / MODEL_FILE)
    for name, one in models[0].named_parameters():
        mean = (one + models[1].get_parameter(name)).detach() / 2
        torch.testing.assert_close(published[name], mean, rtol=1e-4, atol=1e-5, msg=name)


def join(parts: list[Any]) -> Any:
    names = ("tokens_BT", "labels_BT", "segments_BT", "prefix_BT")
    return replace(parts[0], **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def test_a_checkpoint_holds_each_workers_own_and_the_means_another_number_goes_on_from(
    tiny, config, tmp_path: Path
) -> None:
    config = replace(config, averaging=KINDS[0], steps=EVERY)
    saved = Trial(tiny, config, tmp_path).finish(4).saved(EVERY)
    own = [load_file(saved / file_of(rank)) for rank in range(4)]
    kept = {"model": MODEL_FILE, "optimizer": OPTIMIZER_FILE, "averaging": AVERAGING_FILE}
    for part, name in kept.items():
        for key, mean in load_file(saved / name).items():
            expected = np.mean([worker[f"{part}/{key}"].double().numpy() for worker in own], axis=0)
            np.testing.assert_allclose(mean.numpy(), expected, rtol=1e-5, atol=1e-7)
    run = Run(open_inputs(tiny.sources, tiny.tokenizer, None, config), config)
    run.restore(saved)
    resumed = {"model": run.model.state_dict(), "optimizer": optimizers.moments(run.model, run.optimizer)}
    for part, tensors in (resumed | {"averaging": run.averaging.state()}).items():
        for key, mean in load_file(saved / kept[part]).items():
            assert torch.equal(tensors[key], mean)
    controls = [tensor.abs().max() for tensor in run.averaging.state().values()]
    assert max(controls) < 1e-6


def test_workers_that_leave_and_join_between_runs_take_every_step_over_the_rows_they_are_there_for(
    tiny, config, tmp_path: Path
) -> None:
    changed = Trial(tiny, config, tmp_path)
    for world, until in ((4, 4), (3, 8), (2, STEPS)):
        changed.finish(world, until_step, until)
        assert changed.taken() == until
    read = [len({part.row for part in Ledger(changed.out / LEDGER_FILE).of_step(step)}) for step in (4, 5, 9)]
    assert read == [4, 3, 4]  # three workers leave a fourth part of the rows to nobody


def until_step(arguments: dict[str, Any], last: int) -> None:
    """Train, and be told to stop in a step, unless it is the last one."""

    def told(*given: Any, **more: Any) -> StepResult:
        if given[4] == last < STEPS:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(*given, **more)

    loop.take_step = told
    with contextlib.suppress(Interrupted):
        work(arguments)


def poisoned(arguments: dict[str, Any], at: int) -> None:
    """Train; the second worker's gradient is infinite at one step."""

    def sabotaged(
        model: Any, optimizer: Any, batch: Any, config: Any, step: int, *rest: Any, **more: Any
    ) -> StepResult:
        if (os.environ["RANK"], step) == ("1", at):
            model.layers[0].norm.weight.register_hook(lambda gradient: gradient * math.inf)
        return take_step(model, optimizer, batch, config, step, *rest, **more)

    loop.take_step = sabotaged
    work(arguments)


def test_what_is_not_finite_on_one_worker_is_skipped_by_all(tiny, config, tmp_path: Path) -> None:
    # The last step, after which an exchange was due: the workers are published as they were before it.
    config = replace(config, guard=GuardConfig(skips=1), steps=5, checkpoint_every_steps=4)
    trial = Trial(tiny, config, tmp_path).finish(WORLD, poisoned, 5)
    assert [line["step"] for line in trial.lines(SKIPPED_FILE)] == [5]
    own = [load_file(trial.saved(4) / file_of(rank)) for rank in range(WORLD)]
    assert any(not torch.equal(own[0][name], own[1][name]) for name in own[0] if name.startswith("model/"))
    for name, tensor in load_file(trial.out / MODEL_FILE).items():
        mean = (own[0][f"model/{name}"] + own[1][f"model/{name}"]) / 2
        torch.testing.assert_close(tensor, mean, rtol=1e-6, atol=1e-7)


def overflowing(arguments: dict[str, Any]) -> None:
    """Train in fp16; one weight's gradient overflows on the second worker alone."""

    def sabotaged(model: Any, *given: Any, **more: Any) -> StepResult:
        if (os.environ["RANK"], given[3]) == ("1", 4):
            scale = more["scale"]
            model.layers[0].out.weight.register_hook(lambda g: g * (math.inf if scale.factor > 8192 else 1.0))
        return take_step(model, *given, **more)

    loop.take_step = sabotaged
    work(arguments)


def test_a_gradient_that_overflows_on_one_worker_lowers_the_loss_scale_of_all(tiny, config, tmp_path: Path) -> None:
    trial = Trial(tiny, replace(config, precision="fp16", steps=4), tmp_path).finish(WORLD, overflowing)
    assert checkpoints.read_state(trial.saved(4))["loss_scale"]["factor"] == 8192
    assert not any("skipped" in line for line in trial.lines("losses.jsonl"))


class Listener(Tracker):
    """Keeps what it hears in a file, from which another process can tell."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def metrics(self, values: Any, step: int | None = None) -> None:
        with self._file.open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")


def heard(arguments: dict[str, Any], file: Path) -> None:
    train(**arguments, tracker=Listener(file))


def test_a_run_tells_every_byte_its_workers_exchange(tiny, config, tmp_path: Path) -> None:
    trial = Trial(tiny, config, tmp_path).finish(WORLD, heard, tmp_path / "heard.jsonl")
    weights = 4 * sum(p.numel() for p in GPTJ(config.model).parameters())
    moments = 2 * weights + 4 * len(list(GPTJ(config.model).parameters()))
    once = 2 * (WORLD - 1) * weights // WORLD
    weighted = 2 * (WORLD - 1) * 4 * -(-(weights // 4 + 1) // WORLD)  # a count of labels travels with gradients
    # Gradients in the first two steps, weights after every third one from there, and once more at the end.
    expected = {1: weighted, 2: weighted, 5: once, 8: once, 10: once}
    lines = trial.lines(TRAFFIC_FILE)
    assert {line["step"]: line["sent_bytes"] for line in lines if line["sent_bytes"]} == expected
    assert {line["step"]: line["collected_bytes"] for line in lines if line["collected_bytes"]} == {
        step: (WORLD - 1) * (weights + moments + 2 * weights + 4) for step in (5, 9)
    }
    told = [json.loads(line) for line in (tmp_path / "heard.jsonl").read_text().splitlines()]
    metrics = {line["step"]: line["traffic/total_bytes"] for line in told if "traffic/total_bytes" in line}
    assert metrics == {5: 2 * weighted + once, 10: 2 * weighted + 3 * once}


def refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"HEADRACE_MESH has tensor=2, and with train\.averaging every process"):
        work(arguments)
    os._exit(0)


def test_processes_that_cut_a_models_layers_are_refused(tiny, config, tmp_path: Path) -> None:
    arguments = tiny.arguments(tmp_path / "out", tmp_path / "work", config=config)
    together(2, refused, arguments, env={"HEADRACE_MESH": "tensor=2"})
    assert not list(tmp_path.glob("work/*/losses.jsonl"))


def test_devices_that_one_process_drives_are_refused() -> None:
    with pytest.raises(ConfigError, match="one process drives all devices of XLA"):
        Replicas(spmd=object()).apart()  # type: ignore[arg-type]


@pytest.mark.parametrize(("rows", "workers", "parts"), [(64, 4, 4), (64, 3, 4), (12, 5, 6), (4, 1, 1), (4, 5, 5)])
def test_rows_are_cut_evenly_into_a_part_for_every_worker(rows: int, workers: int, parts: int) -> None:
    assert even_parts(rows, workers) == parts
