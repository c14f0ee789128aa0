"""The chain killed in each of its stages, and run again to the result of a run that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from headrace import tracking
from tests.project import make_project

PATIENCE_SECONDS = 120
STAGES = ("gather", "filter-corpus", "tokenize-1", "pretrain", "evaluate-candidate", "promote", "deploy")
OTHERS = (
    "train-tokenizer", "sign-1", "sign-2", "tokenize-2", "report-data", "combine-text", "combine-instructions",
    "finetune-ul2", "finetune-instruct", "evaluate-base", "evaluate-incumbent", "gate", "close",
)  # fmt: skip
"""Killed too where HEADRACE_TEST_EVERY_STAGE is set, at ten seconds each."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("killed") / "project")


def start(project: Path, home: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "HEADRACE"))}
    environment["HEADRACE_HOME"] = str(home)
    command = [sys.executable, "-m", "headrace.cli", "run", "end_to_end", "--recipe", "tiny", "--json", f"{home}.json"]
    return subprocess.Popen(
        command, cwd=project, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(project: Path, home: Path) -> dict[str, Any]:
    process = start(project, home)
    said, _ = process.communicate(timeout=500)
    assert process.returncode == 0, said
    told: dict[str, Any] = json.loads(Path(f"{home}.json").read_text())
    return told


def wait_for(stages: Collection[str], process: subprocess.Popen[str], home: Path, before: set[Path]) -> str:
    """The first of `stages` whose log appears in a run that was not there before."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        logs = [log.stem for run in runs(home) - before for log in (run / "logs").glob("*.log")]
        if found := sorted(set(logs) & set(stages)):
            return found[0]
        time.sleep(0.02)
    assert process.poll() is None, process.communicate()[0]
    raise AssertionError(f"none of {stages} started within {PATIENCE_SECONDS} s")


def runs(home: Path) -> set[Path]:
    return set((home / "runs").glob("*"))


def lasting(told: dict[str, Any]) -> dict[str, Any]:
    """What a run came to, without how long its endpoint took."""
    return {key: value for key, value in told["facts"].items() if not key.startswith("deploy/")}


def test_killed_in_each_stage_and_run_again_the_chain_comes_to_the_same_result(project: Path, tmp_path: Path) -> None:
    home = tmp_path / "killed"
    rng = random.Random(0)
    every = "HEADRACE_TEST_EVERY_STAGE" in os.environ
    left = {
        *STAGES,
        *(OTHERS if every else ()),
    }  # which of two that do not wait for each other comes first, KFP does not promise
    while left:
        before = runs(home)
        process = start(project, home)
        left.remove(wait_for(left, process, home, before))
        time.sleep(rng.uniform(0, 1.2))
        process.kill()
        process.communicate()
    told = finish(project, home)
    assert told["verdict"]["passed"] is True
    assert lasting(told) == lasting(finish(project, tmp_path / "undisturbed"))
    assert not list((home / "artifacts").glob("*/*/*.partial-*/manifest.json"))
    assert mlflow_statuses(home) <= {"FINISHED", "KILLED", "FAILED"}


def mlflow_statuses(home: Path) -> set[str]:
    """Statuses of all runs: none may be left open."""
    import mlflow

    store = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = store.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    return {run.info.status for run in store.search_runs([experiment], max_results=1000)}


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
