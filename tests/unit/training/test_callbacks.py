import json
import math
from pathlib import Path

import pytest

from headrace.tracking import Tracker
from headrace.training import callbacks
from headrace.training.callbacks import LOSS_FILE, LossLog, Metrics, Progress
from headrace.training.step import StepResult


def result(step: int, loss: float = 2.0) -> StepResult:
    return StepResult(step=step, loss=loss, grad_norm=0.5, learning_rate=1e-3, labels=10, tokens=1000)


def written(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOSS_FILE).read_text().splitlines()]


class Recorder(Tracker):
    def __init__(self) -> None:
        self.measured: list[tuple[int | None, dict]] = []

    def metrics(self, values, step=None) -> None:
        self.measured.append((step, dict(values)))


def test_losses_are_kept_to_the_last_bit_as_soon_as_they_are_known(tmp_path: Path) -> None:
    log = LossLog(tmp_path, 0)
    for step, loss in enumerate((math.pi, 1 / 3, 1e-300), start=1):
        log.after_step(result(step, loss))
        assert written(tmp_path)[-1]["loss"] == loss
    log.close()
    assert [line["step"] for line in written(tmp_path)] == [1, 2, 3]


def test_steps_that_will_be_taken_again_leave_the_log(tmp_path: Path) -> None:
    log = LossLog(tmp_path, 0)
    for step in range(1, 8):
        log.after_step(result(step, float(step)))
    log.close()
    with (tmp_path / LOSS_FILE).open("a") as file:
        file.write('{"step": 8, "lo')
    log = LossLog(tmp_path, 5)
    log.after_step(result(6, 60.0))
    log.close()
    assert [(line["step"], line["loss"]) for line in written(tmp_path)] == [
        (1, 1.0),
        (2, 2.0),
        (3, 3.0),
        (4, 4.0),
        (5, 5.0),
        (6, 60.0),
    ]


def test_metrics_come_every_few_steps_with_the_speed_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    recorder = Recorder()
    metrics = Metrics(recorder, 3)
    for step in range(1, 8):
        metrics.after_step(result(step))
    expected = {"loss": 2.0, "learning_rate": 1e-3, "grad_norm": 0.5}
    assert recorder.measured == [
        (3, expected | {"tokens_per_second": 1500.0}),
        (6, expected | {"tokens_per_second": 375.0}),
    ]


def test_progress_tells_loss_speed_and_time_left_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: now[0])
    lines: list[tuple[str, float]] = []
    progress = Progress(lambda text, fraction: lines.append((text, fraction)), steps=1200)
    for step in range(1191, 1201):  # as after a resume
        now[0] += 0.4
        progress.after_step(result(step, 3.14159))
    assert [round(fraction * 1200) for _, fraction in lines] == [1191, 1194, 1197, 1200]
    assert lines[1][0] == "step 1,194/1,200 · loss 3.142 · 2,500 tokens/s · 2 s left"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0.2, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_as_one_would_say_them(seconds: float, said: str) -> None:
    assert callbacks.duration(seconds) == said
