"""The chain interrupted; `test_chain` kills it."""

import json
import signal
from pathlib import Path

import pytest

from tests.e2e.killing import mlflow_statuses, start, wait_for
from tests.project import make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("killed") / "project")


@pytest.mark.parametrize(("stage", "sent"), [("train-tokenizer", signal.SIGINT), ("tokenize-1", signal.SIGTERM)])
def test_an_interrupted_run_stops_its_task_closes_its_runs_and_says_how_to_go_on(
    project: Path, tmp_path: Path, stage: str, sent: signal.Signals
) -> None:
    home = tmp_path / "home"
    process = start(project, home)
    wait_for({stage}, process, home, set())
    process.send_signal(sent)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.strip().splitlines()[-1] == "error: Interrupted. Run the same command again to continue."
    assert mlflow_statuses(home) <= {"FINISHED", "KILLED"}
    told = json.loads(Path(f"{home}.json").read_text())
    assert told["status"] == "KILLED"
