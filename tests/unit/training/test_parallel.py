"""Runs on several processes over gloo, against the same run in one."""

import os
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from headrace import storage
from headrace.artifacts import LEDGER_FILE, MODEL_FILE, OPTIMIZER_FILE
from headrace.errors import ConfigError, Interrupted
from headrace.training import loop
from headrace.training.config import TrainConfig
from headrace.training.optimizer import OptimizerConfig
from headrace.training.parallel import launch, patience
from headrace.training.step import StepResult
from tests.unit.training.together import losses, together
from tests.unit.training.trained import Trained, agree, in_one_of_several, refused, run

STEPS, EVERY = 8, 4


@pytest.fixture(scope="module")
def config(tiny) -> TrainConfig:
    # A large eps makes Adam follow a gradient's size: of one that is all rounding it would follow the sign.
    return replace(
        tiny.config, steps=STEPS, checkpoint_every_steps=EVERY, optimizer=OptimizerConfig(eps=1e-3, weight_decay=0.1)
    )


@pytest.fixture(scope="module")
def alone(tiny, config, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run("data=1", tiny, config, tmp_path_factory.mktemp("alone"))


@pytest.fixture(scope="module", params=["data=2", "data=4", "tensor=2", "data=2,tensor=2"])
def shared(request, tiny, config, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(request.param, tiny, config, tmp_path_factory.mktemp("shared"))


def test_every_step_of_several_replicas_is_that_of_one(alone: Trained, shared: Trained) -> None:
    for mine, theirs in zip(alone.steps(), shared.steps(), strict=True):
        assert {key: mine[key] for key in ("step", "labels", "tokens")} == {
            key: theirs[key] for key in ("step", "labels", "tokens")
        }
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-5)
    assert len({step["labels"] for step in alone.steps()}) > 1


def test_weights_and_gradients_of_several_replicas_are_those_of_one(alone: Trained, shared: Trained) -> None:
    agree(load_file(alone.out / MODEL_FILE), load_file(shared.out / MODEL_FILE))
    agree(alone.tensors(MODEL_FILE, EVERY), shared.tensors(MODEL_FILE, EVERY))
    # The first moment is a running mean of the gradients.
    agree(alone.tensors(OPTIMIZER_FILE, EVERY), shared.tensors(OPTIMIZER_FILE, EVERY))


def test_several_replicas_leave_the_ledger_that_one_leaves(alone: Trained, shared: Trained) -> None:
    assert (shared.out / LEDGER_FILE).read_bytes() == (alone.out / LEDGER_FILE).read_bytes()


@pytest.mark.parametrize(("before", "after"), [("data=2", "data=1"), ("data=2,tensor=2", "data=2")])
def test_a_run_goes_on_with_another_number_of_replicas(
    before: str, after: str, tiny, config, alone: Trained, tmp_path: Path
) -> None:
    first = run(before, tiny, config, tmp_path)
    (last,) = first.work.glob(f"*/step-{STEPS:08d}")
    shutil.rmtree(last)
    again = run(after, tiny, config, tmp_path / "again", first.work)
    assert (again.out / LEDGER_FILE).read_bytes() == (alone.out / LEDGER_FILE).read_bytes()
    agree(load_file(alone.out / MODEL_FILE), load_file(again.out / MODEL_FILE))
    kept = losses(first.work).splitlines()
    assert len(kept) == STEPS


def test_several_replicas_that_resume_take_the_same_steps_to_the_last_bit(tiny, config, tmp_path: Path) -> None:
    straight = run("data=2", tiny, config, tmp_path / "straight")
    logged = losses(straight.work)
    (last,) = straight.work.glob(f"*/step-{STEPS:08d}")
    shutil.rmtree(last)
    again = run("data=2", tiny, config, tmp_path / "again", straight.work)
    assert losses(again.work) == logged
    assert storage.verify(again.out).digest == storage.verify(straight.out).digest


def one_is_told_to_stop(arguments: dict) -> None:
    """Train; the second process alone gets a SIGTERM, in its third step."""
    whole = loop.take_step

    def take_step(*given: object, **more: object) -> StepResult:
        result = whole(*given, **more)
        if (os.environ["RANK"], result.step) == ("1", 3):
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    loop.take_step = take_step
    with pytest.raises(Interrupted, match="after step 3, which is saved"):
        in_one_of_several(arguments)


def test_a_signal_to_one_process_saves_and_ends_all_and_they_go_on_to_the_same_bits(
    tiny, config, tmp_path: Path
) -> None:
    rarely = replace(config, checkpoint_every_steps=STEPS)
    together(2, one_is_told_to_stop, tiny.arguments(tmp_path / "out", tmp_path / "work", config=rarely))
    assert [path.name for path in tmp_path.glob("work/*/step-*")] == ["step-00000003"]
    assert not (tmp_path / "out").exists()
    resumed, straight = run("data=2", tiny, rarely, tmp_path), run("data=2", tiny, rarely, tmp_path / "straight")
    assert losses(resumed.work) == losses(straight.work)
    assert storage.verify(resumed.out).digest == storage.verify(straight.out).digest


def test_shards_that_recompute_their_layers_take_the_same_steps(tiny, config, alone: Trained, tmp_path: Path) -> None:
    repeated = run("data=2,tensor=2", tiny, config, tmp_path, recompute="selective")
    agree(load_file(alone.out / MODEL_FILE), load_file(repeated.out / MODEL_FILE))


def test_rows_that_replicas_cannot_share_are_refused(tiny, tmp_path: Path) -> None:
    together(3, refused, tiny.arguments(tmp_path / "out", tmp_path / "work"), "3 replicas cannot share 4 rows evenly")


def told_alike() -> None:
    replicas, process = launch(), torch.distributed.get_rank()
    assert replicas.any(process == 3) is True
    assert replicas.any(False) is False
    assert replicas.agree(lambda: process) == 0
    # Processes of one replica have one rank, and a sum counts each replica once.
    assert replicas.rank == process // 2
    assert replicas.sum(torch.tensor(replicas.rank + 1)) == 3


def test_processes_agree_on_what_only_one_of_them_knows() -> None:
    together(4, told_alike, env={"HEADRACE_MESH": "data=2,tensor=2"})


def gives_up() -> None:
    replicas = launch().apart()
    if replicas.rank == 1:
        time.sleep(5)  # as behind a link that has gone, which tells nobody
        os._exit(0)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"[Tt]imed out"):
        replicas.sum(torch.tensor(1))
    assert time.monotonic() - began < 4.5
    os._exit(0)


def test_a_worker_that_is_not_heard_of_is_waited_for_as_long_as_the_environment_says() -> None:
    together(2, gives_up, env={"HEADRACE_PATIENCE_SECONDS": "2"})


@pytest.mark.parametrize("text", ["0", "soon", "-1", "1.5"])
def test_a_patience_that_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=f"HEADRACE_PATIENCE_SECONDS='{text}' is no time to wait"):
        patience(text)


@pytest.mark.parametrize("name", ["n_head", "d_ff"])
def test_a_layer_that_processes_cannot_share_is_refused(name: str, tiny, tmp_path: Path) -> None:
    changes = {"n_head": {"n_head": 1}, "d_ff": {"d_ff": 65}}[name]
    arguments = tiny.arguments(tmp_path / "out", tmp_path / "work", config=tiny.with_model(**changes))
    together(2, refused, arguments, f"tensor=2 processes cannot share model.{name}", env={"HEADRACE_MESH": "tensor=2"})


@pytest.mark.parametrize("processes", ["0", "two"])
def test_a_world_of_no_processes_is_refused(processes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(ConfigError, match=f"WORLD_SIZE='{processes}' is no number of processes"):
        launch()


def test_one_process_needs_no_group() -> None:
    replicas = launch()
    assert (replicas.rank, replicas.world, replicas.mesh, replicas.is_main) == (0, 1, None, True)
    assert replicas.sum(torch.tensor(np.pi)).item() == np.float32(np.pi)
    assert not torch.distributed.is_initialized()
