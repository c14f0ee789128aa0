import json
import math
from pathlib import Path

from headrace.training.logs import LOSS_FILE, LossLog
from headrace.training.step import StepResult


def result(step: int, loss: float) -> StepResult:
    return StepResult(step=step, loss=loss, grad_norm=0.5, learning_rate=1e-3, labels=10, tokens=1000)


def written(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOSS_FILE).read_text().splitlines()]


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
