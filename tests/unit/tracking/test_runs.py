import concurrent.futures
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from headrace import status, tracking
from headrace.errors import UnavailableError
from headrace.tracking import client, task
from tests.unit.tracking.seen import run_of, runs


def test_tasks_are_nested_under_one_parent_for_each_pipeline_run(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = tracking.parent_run(place, {"headrace.recipe": "demo"})
    for stage in ("prepare", "pretrain"):
        monkeypatch.setenv(tracking.STAGE, stage)
        with task({"seed": 1}) as run:
            assert run_of(run.run_id).info.status == "RUNNING"
    cached = tracking.record_cached(place, "evaluate", run.run_id)
    assert tracking.close_pipeline(place, "FINISHED") == 0
    parent, *nested = runs(place)
    assert (parent.info.run_id, parent.info.run_name, parent.info.status) == (opened, place, "FINISHED")
    assert parent.data.tags["headrace.recipe"] == "demo"
    assert {child.data.tags[tracking.PARENT_TAG] for child in nested} == {opened}
    told = {child.info.run_name: child.data.tags["headrace.cached"] for child in nested}
    assert told == {"prepare": "false", "pretrain": "false", "evaluate": "true"}
    assert {child.info.status for child in nested} == {"FINISHED"}
    assert run_of(cached).data.tags["headrace.computed_by"] == run.run_id
    assert status.read(Path(os.environ[status.STATUS]))["run_id"] == run.run_id


def test_tasks_that_begin_together_keep_one_parent(mlflow_store: Path) -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        made = set(pool.map(tracking.parent_run, ["together"] * 4))
    kept = tracking.parent_run("together")
    assert kept in made
    runs = client().search_runs([tracking.experiment_id()], f"tags.`{tracking.RUN_TAG}` = 'together'")
    assert [run.info.run_id for run in runs] == [kept]


def test_another_pipeline_run_has_another_parent(pipeline: str) -> None:
    assert tracking.parent_run("a") == tracking.parent_run("a") != tracking.parent_run("b")


def test_the_parent_is_found_among_any_number_of_tasks(pipeline: str) -> None:
    parent = tracking.parent_run(pipeline)
    tags = {tracking.RUN_TAG: pipeline, tracking.PARENT_TAG: parent}
    for n in range(52):
        client().create_run(tracking.experiment_id(), run_name=f"shard {n}", tags=tags)
    assert tracking.parent_run(pipeline) == parent
    assert tracking.close_pipeline(pipeline, "FAILED") == 52
    assert run_of(parent).info.status == "FAILED"


def begin_and_die() -> None:
    client.cache_clear()
    with task({"seed": 1}) as run:
        run.metrics({"loss": 5.0}, step=1)
        os.kill(os.getpid(), signal.SIGKILL)


def test_closing_a_pipeline_ends_what_a_killed_task_left(place: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=begin_and_die, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    parent, left = runs(place)
    assert (parent.info.status, left.info.status) == ("RUNNING", "RUNNING")
    assert tracking.close_pipeline(place, "FAILED") == 1
    parent, left = runs(place)
    assert (parent.info.status, left.info.status, left.data.metrics["loss"]) == ("FAILED", "KILLED", 5.0)
    assert tracking.close_pipeline(place, "FAILED") == 0


def test_a_deleted_experiment_is_told_with_the_way_back(mlflow_store: Path) -> None:
    client().delete_experiment(tracking.experiment_id())
    with pytest.raises(UnavailableError, match="mlflow experiments restore --experiment-id"):
        tracking.parent_run("run-2")
