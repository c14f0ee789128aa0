import json
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from headrace.tracking import Tracker
from headrace.training.curves import CURVES_FILE, Curves, thinned
from headrace.training.logs import LossLog
from headrace.training.loop import train
from headrace.training.step import StepResult

LINE = "{http://www.w3.org/2000/svg}polyline"


class Kept(Tracker):
    """Remembers the files it was given, as they were."""

    def __init__(self) -> None:
        self.files: dict[str, str] = {}

    def artifact(self, path: Path, folder: str = "") -> None:
        self.files[path.name] = path.read_text()


def points(svg: str) -> list[int]:
    """How many each curve has."""
    return [len(line.attrib["points"].split()) for line in ElementTree.fromstring(svg).iter(LINE)]


def result(step: int, **changes: Any) -> StepResult:
    made = StepResult(step=step, loss=5.0 - step, grad_norm=1.0, learning_rate=1e-3, labels=8, tokens=8)
    return replace(made, **changes)


def follow(log: LossLog, curves: Curves, step: StepResult) -> None:
    """Tell both of a step, in the order in which a run does."""
    log.after_step(step)
    curves.after_step(step)


def test_a_run_leaves_its_curves_in_its_workspace_and_with_its_tracker(tiny, tmp_path: Path) -> None:
    tracker = Kept()
    train(**tiny.arguments(tmp_path / "out", tmp_path / "work"), tracker=tracker)
    (drawn,) = (tmp_path / "work").glob(f"*/{CURVES_FILE}")
    assert points(drawn.read_text()) == [tiny.config.steps] * 2
    assert tracker.files[CURVES_FILE] == drawn.read_text()


def test_a_resumed_run_draws_the_losses_of_all_its_steps_but_those_that_were_skipped(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 4.0}, {"step": 2, "loss": None, "skipped": "spike"}]
    (tmp_path / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    log, curves = LossLog(tmp_path, 2), Curves(tmp_path, Tracker())
    for step in (3, 4):
        follow(log, curves, result(step))
    follow(log, curves, result(5, loss=float("nan"), skipped="loss=nan"))
    curves.close()
    assert points((tmp_path / CURVES_FILE).read_text()) == [3, 3]


def test_a_run_that_took_no_step_draws_nothing(tmp_path: Path) -> None:
    (tmp_path / "losses.jsonl").write_text("")
    Curves(tmp_path, Tracker()).close()
    assert not (tmp_path / CURVES_FILE).exists()


def test_curves_that_cannot_be_written_are_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / CURVES_FILE).mkdir()
    log, curves = LossLog(tmp_path, 0), Curves(tmp_path, Tracker())
    follow(log, curves, result(1))
    curves.close()
    assert "were not drawn" in caplog.text


def test_long_curves_are_means_of_neighbours() -> None:
    drawn = thinned([(step, step % 2) for step in range(1, 401)])
    assert len(drawn) == 100
    assert drawn[0] == (4, pytest.approx(0.5)) and drawn[-1] == (400, pytest.approx(0.5))
