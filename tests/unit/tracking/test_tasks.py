import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from headrace import status, tracking
from headrace.errors import ConfigError, DataError, HeadraceError, Interrupted, UnavailableError
from headrace.tracking import client, task, tasks
from tests.unit.tracking.seen import run_of, runs


def test_a_run_that_kfp_has_made_is_adopted_and_left_open(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = str(client().create_run(tracking.experiment_id(), run_name="theirs").info.run_id)
    monkeypatch.setenv("MLFLOW_RUN_ID", theirs)
    before = len(client().search_runs([tracking.experiment_id()], max_results=1000))
    with task({"seed": 1}) as run:
        run.metrics({"loss": 1.0})
    with pytest.raises(DataError), task():
        raise DataError("broken")
    assert run.run_id == theirs
    assert run_of(theirs).info.status == "RUNNING"
    assert (run_of(theirs).data.params, run_of(theirs).data.metrics) == ({"seed": "1"}, {"loss": 1.0})
    assert len(client().search_runs([tracking.experiment_id()], max_results=1000)) == before


@pytest.mark.parametrize("alone", [False, True])
def test_a_task_that_begins_again_goes_on_in_the_run_that_its_file_remembers(
    alone: bool, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if alone:
        monkeypatch.delenv(tracking.PIPELINE_RUN)
    memory, ids = tmp_path / "work" / "run.json", []
    for attempt in range(3):
        with contextlib.suppress(DataError), task({"seed": 1}, memory=memory) as run:
            ids.append(run.run_id)
            assert run_of(run.run_id).info.status == "RUNNING"
            run.metrics({"loss": 3.0 - attempt}, step=attempt)
            if attempt < 2:
                raise DataError("killed")
    assert len(set(ids)) == 1
    told = run_of(ids[0])
    assert (told.info.status, told.data.metrics) == ("FINISHED", {"loss": 1.0})
    assert [point.value for point in client().get_metric_history(ids[0], "loss")] == [3.0, 2.0, 1.0]
    (parent,) = (run for run in runs(told.data.tags[tracking.RUN_TAG]) if tracking.PARENT_TAG not in run.data.tags)
    assert parent.info.status == ("FINISHED" if alone else "RUNNING")
    with task(memory=memory) as another:
        assert another.run_id != ids[0]


def test_a_remembered_run_that_is_gone_or_of_another_pipeline_run_is_left_alone(
    pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory, ids = tmp_path / "run.json", []
    for change in (lambda: client().delete_run(ids[-1]), lambda: monkeypatch.setenv(tracking.PIPELINE_RUN, "run-2")):
        with contextlib.suppress(DataError), task(memory=memory) as run:
            ids.append(run.run_id)
            raise DataError("killed")
        change()
    with task(memory=memory) as run:
        ids.append(run.run_id)
    assert len(set(ids)) == 3


def test_an_adopted_run_that_is_not_there_is_named(pipeline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_RUN_ID", "0" * 32)
    with pytest.raises(ConfigError, match=r"^MLFLOW_RUN_ID='0+' is no run at sqlite:.*Unset it\.$"), task():
        pass


@pytest.mark.parametrize(
    ("error", "ends", "code"),
    [
        (DataError("line 3 is\nbroken"), "FAILED", 2),
        (ValueError("x"), "FAILED", 1),
        (KeyboardInterrupt(), "KILLED", 1),
        (Interrupted("Stopped after step 7."), "KILLED", 143),
    ],
)
def test_an_error_ends_the_run_and_reaches_the_runner(place: str, error: BaseException, ends: str, code: int) -> None:
    with pytest.raises(type(error)), task() as run:
        raise error
    assert run_of(run.run_id).info.status == ends
    said = status.read(Path(os.environ[status.STATUS]))["error"]
    assert (said["exit_code"], said["known"]) == (code, isinstance(error, HeadraceError))
    assert "\n" not in said["message"]


def test_a_task_without_a_pipeline_has_a_parent_that_ends_with_it(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parents = []
    for outcome in ("FINISHED", "FAILED"):
        try:
            with task() as run:
                assert outcome == "FINISHED"
        except AssertionError:
            pass
        parent = run_of(run_of(run.run_id).data.tags[tracking.PARENT_TAG])
        assert (parent.info.status, run_of(run.run_id).info.status) == (outcome, outcome)
        parents.append(parent.info.run_id)
    assert len(set(parents)) == 2


def test_a_server_that_stays_silent_does_not_undo_a_finished_task(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tasks, "FAREWELL_SECONDS", 1)
    with contextlib.ExitStack() as stack:
        with task() as run:
            stack.enter_context(server.stopped())
        assert "the run stays open" in caplog.text
        with pytest.raises(UnavailableError), task():
            pass
        assert "does not answer" in status.read(Path(os.environ[status.STATUS]))["error"]["message"]
    assert run_of(run.run_id).info.status == "RUNNING"


def test_who_the_parent_is_never_comes_from_the_tasks_own_inputs(
    pipeline: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call with the same arguments goes where the environment says: cache keys stay the same."""
    arguments: dict[str, Any] = {"config": {"seed": 1}, "inputs": {}}
    parents = []
    for name in ("first", "second"):
        monkeypatch.setenv(tracking.PIPELINE_RUN, name)
        with task(**arguments) as run:
            parents.append(run_of(run.run_id).data.tags[tracking.PARENT_TAG])
    assert parents == [tracking.parent_run("first"), tracking.parent_run("second")]


def test_workspaces_lie_at_home_unless_a_volume_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.delenv("HEADRACE_WORK", raising=False)
    assert tracking.workspace() == tmp_path / "work"
    monkeypatch.setenv("HEADRACE_WORK", "/volume")
    assert tracking.workspace() == Path("/volume")
