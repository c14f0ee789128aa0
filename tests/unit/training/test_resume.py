"""A run that is killed and called again, against one that never was."""

import random
import time
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.artifacts import MODEL_FILE, OPTIMIZER_FILE
from headrace.tracking import Tracker
from headrace.training.loop import train
from tests.unit.training.trials import EVERY, STEPS, Trial, agree


@pytest.fixture(scope="module")
def uninterrupted(tiny, tmp_path_factory: pytest.TempPathFactory) -> Trial:
    trial = Trial(tiny, tmp_path_factory.mktemp("straight"))
    trial.finish()
    assert trial.steps_logged() == STEPS
    return trial


def test_killed_at_random_points_a_run_ends_in_the_same_bits(tiny, tmp_path, uninterrupted) -> None:
    trial, draw = Trial(tiny, tmp_path), random.Random(time.time_ns())
    for wanted in sorted(draw.sample(range(1, STEPS - 5), 5)):
        trial.kill_when(lambda at=wanted: trial.steps_logged() >= at)
    trial.finish()
    agree(trial, uninterrupted)


def test_killed_while_it_saves_a_run_ends_in_the_same_bits(tiny, tmp_path, uninterrupted) -> None:
    trial = Trial(tiny, tmp_path)
    for _ in range(3):
        trial.kill_when(trial.being_saved)
    trial.finish()
    agree(trial, uninterrupted)
    assert not trial.being_saved()


@pytest.mark.parametrize("name", [MODEL_FILE, OPTIMIZER_FILE])
def test_a_damaged_newest_checkpoint_costs_steps_but_changes_nothing(
    name: str, tiny, tmp_path: Path, uninterrupted
) -> None:
    trial = Trial(tiny, tmp_path)
    trial.kill_when(lambda: len(trial.checkpoints()) >= 2)
    newest = trial.checkpoints()[-1]
    data = bytearray((newest / name).read_bytes())
    data[len(data) // 2] ^= 1
    (newest / name).write_bytes(data)
    trial.finish()
    agree(trial, uninterrupted)


def test_terminated_a_run_saves_the_step_it_is_at_and_ends_in_the_same_bits(tiny, tmp_path, uninterrupted) -> None:
    trial, draw = Trial(tiny, tmp_path, checkpoint_every_steps=STEPS), random.Random(time.time_ns())
    for wanted in sorted(draw.sample(range(1, STEPS - 20), 3)):
        reached = max(wanted, trial.steps_logged() + 1)
        process = trial.start_until(lambda at=reached: trial.steps_logged() >= at)
        process.terminate()
        process.join()
        assert process.exitcode == 143
        assert not trial.out.exists()
        assert trial.checkpoints()[-1].name == f"step-{trial.steps_logged():08d}"
    trial.finish()
    assert trial.losses() == uninterrupted.losses()
    assert (trial.out / MODEL_FILE).read_bytes() == (uninterrupted.out / MODEL_FILE).read_bytes()


def test_a_run_resumes_rather_than_starts_again(tiny, tmp_path: Path, uninterrupted) -> None:
    trial = Trial(tiny, tmp_path)
    trial.kill_when(lambda: len(trial.checkpoints()) >= 1 and trial.steps_logged() >= 2 * EVERY + 1)
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
