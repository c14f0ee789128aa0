"""Checkpoints in the background: what is written, in which order, and what becomes of failures."""

import resource
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace import checkpoints, storage
from headrace.artifacts import LEDGER_FILE, MODEL_FILE, Checkpoint
from headrace.checkpoints import Contents
from headrace.errors import UnavailableError
from headrace.training import writer as writers
from headrace.training.writer import CheckpointWriter
from tests.unit.training.trials import EVERY, STEPS, Trial, agree, work

PATIENCE_SECONDS = 20.0


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.write_bytes(b"12345")
    return path


def contents(step: int, ledger: Path, weights: torch.Tensor) -> Contents:
    facts = Checkpoint(
        step=step, tokens_seen=step, labels_seen=step, model={}, tokenizer="t", mask="causal", config={}, loss=1.0
    )
    return Contents(
        facts=facts,
        parents={},
        model={"w": weights},
        optimizer={"w/exp_avg": weights / 2},
        state={},
        tokenizer=ledger,
        ledger=ledger,
        ledger_bytes=ledger.stat().st_size,
    )


class Gate:
    """A `save` that begins when it is let."""

    def __init__(self, home: Path) -> None:
        self.home, self.began, self.open = home, threading.Semaphore(0), threading.Semaphore(0)

    def __call__(self, given: Contents) -> Path:
        self.began.release()
        assert self.open.acquire(timeout=PATIENCE_SECONDS)
        return checkpoints.save(self.home, given)


def test_what_is_sealed_is_the_run_as_it_was_although_it_went_on(tmp_path: Path, ledger: Path) -> None:
    gate, weights = Gate(tmp_path / "home"), torch.arange(6.0)
    writer = CheckpointWriter(gate)
    for step in (1, 2):
        writer.submit(contents(step, ledger, weights))
        weights += 10
        with ledger.open("ab") as file:
            file.write(b"678")
    gate.open.release(2)
    writer.drain()
    for step, size in ((1, 5), (2, 8)):
        path = gate.home / f"step-0000000{step}"
        assert torch.equal(checkpoints.read_tensors(path, MODEL_FILE)["w"], torch.arange(6.0) + 10 * (step - 1))
        assert (path / LEDGER_FILE).read_bytes() == ledger.read_bytes()[:size]
        storage.verify(path)
    assert [written.step for written in writer.finished()] == [1, 2]
    writer.close()


def test_one_is_written_one_waits_and_a_third_holds_the_run_up(tmp_path: Path, ledger: Path) -> None:
    gate, weights = Gate(tmp_path / "home"), torch.ones(3)
    writer = CheckpointWriter(gate)
    for step in (1, 2):
        writer.submit(contents(step, ledger, weights))
    third = threading.Thread(target=lambda: writer.submit(contents(3, ledger, weights)))
    third.start()
    assert gate.began.acquire(timeout=PATIENCE_SECONDS)
    third.join(0.2)
    assert third.is_alive()
    gate.open.release()
    third.join(PATIENCE_SECONDS)
    assert not third.is_alive()
    gate.open.release(2)
    writer.drain()
    assert [path.name for path in sorted(gate.home.iterdir())] == ["step-00000002", "step-00000003"]
    writer.close()


def test_what_is_wanted_at_once_does_not_wait_for_what_waits(tmp_path: Path, ledger: Path) -> None:
    gate, weights = Gate(tmp_path / "home"), torch.ones(3)
    writer = CheckpointWriter(gate)
    for step in (1, 2):
        writer.submit(contents(step, ledger, weights))
    assert gate.began.acquire(timeout=PATIENCE_SECONDS)
    gate.open.release(2)
    writer.write_now(contents(3, ledger, weights))
    assert [path.name for path in sorted(gate.home.iterdir())] == ["step-00000001", "step-00000003"]


def test_a_write_that_fails_twice_and_then_succeeds_is_no_failure(
    tmp_path: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "PAUSE_SECONDS", 0.0)
    failures = [OSError(28, "No space left on device")] * 2

    def save(given: Contents) -> Path:
        if failures:
            raise failures.pop()
        return checkpoints.save(tmp_path / "home", given)

    writer = CheckpointWriter(save)
    writer.submit(contents(7, ledger, torch.ones(3)))
    writer.drain()
    assert not failures
    assert checkpoints.find_latest(tmp_path / "home") == tmp_path / "home" / "step-00000007"


def test_a_write_that_fails_for_good_is_told_in_one_line_at_the_next_step(
    tmp_path: Path, ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "PAUSE_SECONDS", 0.0)
    tried = []

    def save(given: Contents) -> Path:
        tried.append(given.facts.step)
        raise OSError(28, "No space left on device")

    writer = CheckpointWriter(save)
    writer.submit(contents(1_200, ledger, torch.ones(3)))
    writer._thread.shutdown()
    with pytest.raises(
        UnavailableError, match=r"step 1,200 .* 3 tries \(\[Errno 28\] No space left on device\)"
    ) as told:
        writer.finished()
    assert "\n" not in str(told.value)
    assert tried == [1200] * 3


def work_with_small_files(arguments: dict[str, Any]) -> None:
    """Train where no file may grow to the size of the weights."""
    writers.PAUSE_SECONDS = 0.01
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, 2**16))
    work(arguments)


def test_a_disk_that_takes_no_more_ends_the_run_and_leaves_its_last_checkpoint(tiny, tmp_path: Path) -> None:
    straight, trial = Trial(tiny, tmp_path / "straight"), Trial(tiny, tmp_path / "full")
    straight.finish()
    trial.kill_when(lambda: len(trial.checkpoints()) >= 2)
    newest = trial.checkpoints()[-1]
    digest = storage.verify(newest).digest
    trial.target = work_with_small_files
    process = trial.start()
    process.join()
    assert process.exitcode == 1
    assert trial.said().startswith("The checkpoint of step")
    assert "File too large" in trial.said()
    assert trial.checkpoints()[-1] == newest
    assert storage.verify(newest).digest == digest
    assert not trial.being_saved()
    trial.target = work
    trial.finish()
    assert trial.steps_logged() == STEPS > EVERY
    agree(trial, straight)
