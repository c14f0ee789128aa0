import pytest

from headrace.training import progress
from headrace.training.progress import Progress
from headrace.training.step import StepResult


def result(step: int, loss: float) -> StepResult:
    return StepResult(step=step, loss=loss, grad_norm=0.5, learning_rate=1e-3, labels=10, tokens=1000)


def test_progress_tells_loss_speed_and_time_left_about_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "perf_counter", lambda: now[0])
    lines: list[tuple[str, float]] = []
    shown = Progress(lambda text, fraction: lines.append((text, fraction)), steps=1200)
    for step in range(1191, 1201):  # as after a resume
        now[0] += 0.4
        shown.after_step(result(step, 3.14159))
    assert [round(fraction * 1200) for _, fraction in lines] == [1191, 1194, 1197, 1200]
    assert lines[1][0] == "step 1,194/1,200 · loss 3.142 · 2,500 tokens/s · 2 s left"
