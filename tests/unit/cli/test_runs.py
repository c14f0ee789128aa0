import subprocess
import sys
from pathlib import Path

import pytest

from headrace import tracking
from headrace.cli import runs


def statuses(pipeline_run: str) -> set[str]:
    mine = f"tags.`{tracking.RUN_TAG}` = '{pipeline_run}'"
    return {run.info.status for run in tracking.client().search_runs([tracking.experiment_id()], mine)}


def test_runs_of_a_dead_process_are_closed_and_those_of_a_living_one_left(mlflow_store: Path) -> None:
    for name in ("dead", "living"):
        tracking.nested_run(name, "pretrain")
    script = f"""
import os
from pathlib import Path
from headrace.cli.runs import alive
with alive(Path({str(mlflow_store / "runs" / "dead")!r})):
    os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    with runs.alive(mlflow_store / "runs" / "living"):
        assert runs.close_abandoned(mlflow_store) == ["dead"]
        assert runs.close_abandoned(mlflow_store) == []
        assert statuses("living") == {"RUNNING"}
    assert statuses("dead") == {"KILLED"}


def test_word_of_a_run_stays_only_where_an_error_ended_it(tmp_path: Path) -> None:
    with runs.alive(tmp_path / "well"):
        assert (tmp_path / "well" / runs.ALIVE).exists()
    assert not (tmp_path / "well" / runs.ALIVE).exists()
    with pytest.raises(KeyboardInterrupt), runs.alive(tmp_path / "broken"):
        raise KeyboardInterrupt
    assert (tmp_path / "broken" / runs.ALIVE).exists()
