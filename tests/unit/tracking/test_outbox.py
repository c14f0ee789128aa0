import threading
import time
from typing import Any

import pytest

from headrace.tracking import TaskRun, client, outbox, task
from tests.unit.tracking.seen import run_of


def test_what_mlflow_refuses_does_not_hold_up_the_rest(pipeline: str, caplog: pytest.LogCaptureFixture) -> None:
    with task({"seed": 1}) as run:
        run.params({"seed": 2, "a": 1, "bad\nname": 3, "b" * 300: 4, "c": 5})
        run.metrics({"loss": 1.0, "bad\nname": 2.0})
        run.metrics({"loss": 0.5}, step=1)
    found = run_of(run.run_id)
    assert found.data.params == {"seed": "1", "a": "1", "c": "5"}
    assert found.data.metrics == {"loss": 0.5}
    assert found.info.status == "FINISHED"
    assert caplog.text.count("MLflow refused") == 4


def loss_of(run: TaskRun) -> dict[int, float]:
    return {point.step: point.value for point in client().get_metric_history(run.run_id, "loss")}


def test_metrics_of_a_killed_server_are_sent_when_it_is_back(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with task({"seed": 1}) as run:
        run.metrics({"loss": 3.0}, step=1)
        server.kill()
        began = time.monotonic()
        for step in range(2, 30):
            run.metrics({"loss": 3.0 / step}, step=step)
        assert time.monotonic() - began < 15, "training waits for nobody"
        assert caplog.text.count("kept for later") == 1
        restarted = threading.Timer(0.5, server.start)
        restarted.start()
    restarted.join()
    assert loss_of(run) == {step: 3.0 / step for step in range(1, 30)}
    assert run_of(run.run_id).info.status == "FINISHED"


def test_metrics_are_sent_during_the_task_once_a_silent_server_had_its_pause(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "AWAY_SECONDS", 0)
    with task() as run:
        with server.stopped():
            run.metrics({"loss": 2.0}, step=1)
        run.metrics({"loss": 1.0}, step=2)
        assert loss_of(run) == {1: 2.0, 2: 1.0}
