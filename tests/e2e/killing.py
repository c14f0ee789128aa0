"""Runs of the chain that are started to be killed, and what they leave."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

from headrace import tracking

PATIENCE_SECONDS = 120


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
    """What a run came to, without how long its endpoints took and the digest of the verdict, which knows that."""
    found = {key: dict(value) for key, value in told["facts"].items() if not key.startswith(("deploy/", "rehearse/"))}
    del found["promote/version"]["verdict"]
    return found


def mlflow_statuses(home: Path) -> set[str]:
    """Statuses of all runs: none may be left open."""
    import mlflow

    store = mlflow.MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = store.get_experiment_by_name(tracking.EXPERIMENT).experiment_id
    return {run.info.status for run in store.search_runs([experiment], max_results=1000)}
