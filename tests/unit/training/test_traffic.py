import json
from pathlib import Path

from headrace.tracking import Tracker
from headrace.training.link import Link
from headrace.training.step import StepResult
from headrace.training.traffic import TRAFFIC_FILE, Traffic


class Listener(Tracker):
    def __init__(self) -> None:
        self.heard: list[tuple[int, dict[str, float]]] = []

    def metrics(self, values, step) -> None:
        self.heard.append((step, dict(values)))


def result(step: int) -> StepResult:
    return StepResult(step=step, loss=1.0, grad_norm=1.0, learning_rate=1.0, labels=1, tokens=1)


def entries(folder: Path) -> list[dict[str, int]]:
    return [json.loads(line) for line in (folder / TRAFFIC_FILE).read_text().splitlines()]


def test_each_step_has_a_line_with_the_bytes_it_sent(tmp_path: Path) -> None:
    link, tracker = Link(), Listener()
    link.sent_bytes = 99  # sent before the steps, by no step of theirs
    traffic = Traffic(link, tmp_path, 0, tracker, every_steps=2)
    for step, sent in enumerate((5, 0, 7, 1), start=1):
        link.sent_bytes += sent
        traffic.after_step(result(step))
        link.collected_bytes += 30 if step == 2 else 0  # by a checkpoint of the second step
    traffic.close()
    assert entries(tmp_path) == [
        {"step": 1, "sent_bytes": 5, "total_bytes": 5, "collected_bytes": 0},
        {"step": 2, "sent_bytes": 0, "total_bytes": 5, "collected_bytes": 0},
        {"step": 3, "sent_bytes": 7, "total_bytes": 12, "collected_bytes": 30},
        {"step": 4, "sent_bytes": 1, "total_bytes": 13, "collected_bytes": 0},
    ]
    assert tracker.heard == [(2, {"traffic/total_bytes": 5.0}), (4, {"traffic/total_bytes": 13.0})]


def test_a_resumed_run_counts_on_from_its_step_and_drops_what_came_after(tmp_path: Path) -> None:
    link, tracker = Link(), Listener()
    first = Traffic(link, tmp_path, 0, tracker, every_steps=10)
    for step in (1, 2, 3):
        link.sent_bytes += 10
        first.after_step(result(step))
    first.close()
    with (tmp_path / TRAFFIC_FILE).open("a") as file:
        file.write('{"step": 4, "sent_by')  # as a killed process leaves it
    link = Link()
    resumed = Traffic(link, tmp_path, 2, tracker, every_steps=10)
    link.sent_bytes += 1
    resumed.after_step(result(3))
    resumed.close()
    assert [entry["total_bytes"] for entry in entries(tmp_path)] == [10, 20, 21]
