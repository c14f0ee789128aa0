import pytest

from headrace.tracking import Tracker
from headrace.training import callbacks
from headrace.training.callbacks import Metrics
from headrace.training.step import StepResult


def result(step: int) -> StepResult:
    return StepResult(step=step, loss=2.0, grad_norm=0.5, learning_rate=1e-3, labels=10, tokens=1000)


class Recorder(Tracker):
    def __init__(self) -> None:
        self.measured: list[tuple[int | None, dict]] = []

    def metrics(self, values, step=None) -> None:
        self.measured.append((step, dict(values)))

    def machine(self) -> dict[str, float]:
        return {"system/load": 0.5}


def test_metrics_come_every_few_steps_with_the_speed_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 2.0, 10.0])
    monkeypatch.setattr(callbacks.time, "perf_counter", lambda: next(clock))
    recorder = Recorder()
    metrics = Metrics(recorder, 3, lambda steps, seconds: {"steps_per_second": steps / seconds})
    for step in range(1, 8):
        metrics.after_step(result(step))
    expected = {"loss": 2.0, "learning_rate": 1e-3, "grad_norm": 0.5, "system/load": 0.5}
    assert recorder.measured == [
        (3, expected | {"tokens_per_second": 1500.0, "steps_per_second": 1.5}),
        (6, expected | {"tokens_per_second": 375.0, "steps_per_second": 0.375}),
    ]
