"""A run that is killed and called again, against one that never was."""

import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import storage
from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE
from headrace.tracking import Tracker
from headrace.training.callbacks import LOSS_FILE
from headrace.training.loop import train

STEPS, EVERY = 120, 9
PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    """Makes processes that are forked from one that has imported everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        # The first optimizer imports torch._dynamo, which takes seconds.
        context.set_forkserver_preload(["headrace.training.loop", "torch._dynamo"])
        yield context


class Trial:
    """One run's directories, and processes that train in them."""

    def __init__(self, tiny, root: Path, processes: Any) -> None:
        self.out, self.work, self._processes = root / "out", root / "work", processes
        config = replace(tiny.config, steps=STEPS, checkpoint_every_steps=EVERY)
        self.arguments = tiny.arguments(self.out, self.work, config=config, tracker=Tracker())

    def start(self) -> Any:
        process = self._processes.Process(target=train, kwargs=self.arguments)
        process.start()
        return process

    def finish(self) -> None:
        process = self.start()
        process.join(PATIENCE_SECONDS)
        assert process.exitcode == 0

    def kill_when(self, condition: Callable[[], bool]) -> None:
        """SIGKILL a fresh process the moment `condition` holds."""
        process, deadline = self.start(), time.monotonic() + PATIENCE_SECONDS
        while not condition():
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        process.kill()
        process.join()
        assert process.exitcode == -9
        assert not self.out.exists()

    def steps_logged(self) -> int:
        return self.losses().count(b"\n")

    def losses(self) -> bytes:
        return b"".join(path.read_bytes() for path in self.work.glob(f"*/{LOSS_FILE}"))

    def checkpoints(self) -> list[Path]:
        return sorted(self.work.glob("*/step-????????"))

    def being_saved(self) -> bool:
        return any(self.work.glob("*/step-*.partial-*"))


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory: pytest.TempPathFactory, processes) -> Trial:
    trial = Trial(tiny, tmp_path_factory.mktemp("straight"), processes)
    trial.finish()
    assert trial.steps_logged() == STEPS
    return trial


def agree(one: Trial, other: Trial) -> None:
    """Every loss, every byte of the sealed checkpoint and of the last one with moments is the same."""
    assert one.losses() == other.losses()
    assert (one.out / MODEL_FILE).read_bytes() == (other.out / MODEL_FILE).read_bytes()
    assert storage.verify(one.out).digest == storage.verify(other.out).digest
    last, other_last = (trial.checkpoints()[-1] for trial in (one, other))
    assert OPTIMIZER_FILE in storage.read_manifest(last).files
    assert storage.verify(last).digest == storage.verify(other_last).digest


def test_killed_at_random_points_a_run_ends_in_the_same_bits(tiny, tmp_path, processes, uninterrupted) -> None:
    trial, draw = Trial(tiny, tmp_path, processes), random.Random(time.time_ns())
    for wanted in sorted(draw.sample(range(1, STEPS - 5), 5)):
        trial.kill_when(lambda at=wanted: trial.steps_logged() >= at)
    trial.finish()
    agree(trial, uninterrupted)


def test_killed_while_it_saves_a_run_ends_in_the_same_bits(tiny, tmp_path, processes, uninterrupted) -> None:
    trial = Trial(tiny, tmp_path, processes)
    for _ in range(3):
        trial.kill_when(trial.being_saved)
    trial.finish()
    agree(trial, uninterrupted)
    assert not trial.being_saved()


@pytest.mark.parametrize("name", [MODEL_FILE, OPTIMIZER_FILE])
def test_a_damaged_newest_checkpoint_costs_steps_but_changes_nothing(
    name: str, tiny, tmp_path: Path, processes, uninterrupted
) -> None:
    trial = Trial(tiny, tmp_path, processes)
    trial.kill_when(lambda: trial.steps_logged() >= 3 * EVERY + 1)
    newest = trial.checkpoints()[-1]
    data = bytearray((newest / name).read_bytes())
    data[len(data) // 2] ^= 1
    (newest / name).write_bytes(data)
    trial.finish()
    agree(trial, uninterrupted)


def test_a_run_resumes_rather_than_starts_again(tiny, tmp_path: Path, processes, uninterrupted) -> None:
    trial = Trial(tiny, tmp_path, processes)
    trial.kill_when(lambda: trial.steps_logged() >= 2 * EVERY + 1)
    before = trial.checkpoints()[-1]
    first_step = int(before.name.removeprefix("step-")) + 1

    fractions: list[float] = []
    tracker = Tracker()
    tracker.progress = lambda text, fraction=None: fractions.append(fraction)
    train(**trial.arguments | {"tracker": tracker})
    assert round(fractions[0] * STEPS) == first_step
    assert trial.losses().splitlines()[: first_step - 1] == uninterrupted.losses().splitlines()[: first_step - 1]


def test_logging_and_saving_more_often_still_resumes(tiny, tmp_path: Path) -> None:
    config = replace(tiny.config, steps=12, checkpoint_every_steps=4, log_every_steps=1)
    often = tiny.arguments(tmp_path / "often", tmp_path / "work", config=config)
    rarely = often | {"output_uri": str(tmp_path / "rarely"), "config": replace(config, checkpoint_every_steps=6)}
    train(**often, tracker=Tracker())
    train(**rarely, tracker=Tracker())
    assert len(list((tmp_path / "work").iterdir())) == 1
    assert (tmp_path / "often" / MODEL_FILE).read_bytes() == (tmp_path / "rarely" / MODEL_FILE).read_bytes()


def test_other_arguments_begin_a_run_of_their_own(tiny, tmp_path: Path) -> None:
    config = replace(tiny.config, steps=6)
    for number, changed in enumerate((config, replace(config, seed=3), replace(config, z_loss=0.0))):
        arguments = tiny.arguments(tmp_path / str(number), tmp_path / "work", config=changed)
        train(**arguments, tracker=Tracker())
    assert len(list((tmp_path / "work").iterdir())) == 3
