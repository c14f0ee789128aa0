import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace import tracking
from headrace.cli import runs


def statuses(pipeline_run: str) -> set[str]:
    mine = f"tags.`{tracking.RUN_TAG}` = '{pipeline_run}'"
    return {run.info.status for run in tracking.client().search_runs([tracking.experiment_id()], mine)}


def finished_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_runs_of_a_dead_process_are_closed_and_those_of_a_living_one_left(mlflow_store: Path) -> None:
    for name in ("dead", "living", "half"):
        tracking.nested_run(name, "pretrain")
    for name, said in (("dead", str(finished_pid())), ("half", "")):
        (mlflow_store / "runs" / name).mkdir(parents=True)
        (mlflow_store / "runs" / name / runs.PID_FILE).write_text(said)
    with runs.alive(mlflow_store / "runs" / "living"):
        assert runs.close_abandoned(mlflow_store) == ["dead", "half"]
        assert runs.close_abandoned(mlflow_store) == []
        assert statuses("living") == {"RUNNING"}
    assert statuses("dead") == statuses("half") == {"KILLED"}


def test_word_of_a_run_stays_only_where_an_error_ended_it(tmp_path: Path) -> None:
    with runs.alive(tmp_path / "well"):
        assert (tmp_path / "well" / runs.PID_FILE).read_text() == str(os.getpid())
    assert not (tmp_path / "well" / runs.PID_FILE).exists()
    with pytest.raises(KeyboardInterrupt), runs.alive(tmp_path / "broken"):
        raise KeyboardInterrupt
    assert (tmp_path / "broken" / runs.PID_FILE).exists()
