"""A pipeline task and the MLflow run that its environment gives it."""

import contextlib
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace import atomic, status
from headrace.errors import ConfigError, Interrupted
from headrace.mlflow_server import client, home, tracking_uri
from headrace.tracking.runs import nested_run, parents_of
from headrace.tracking.task_run import TaskRun

PIPELINE_RUN = "HEADRACE_PIPELINE_RUN"
STAGE = "HEADRACE_STAGE"
FAREWELL_SECONDS = 60
"""How long a finished task waits for a server that is away to take its last metrics."""


@contextlib.contextmanager
def task(
    config: Mapping[str, Any] | None = None, inputs: Mapping[str, Any] | None = None, memory: Path | None = None
) -> Iterator[TaskRun]:
    """Run the body of one pipeline task inside its MLflow run.

    Adopts the run that KFP's MLflow plugin made (`MLFLOW_RUN_ID`), else makes a nested run under the
    parent that the environment names. An error ends the run as failed, reaches the runner as one line
    and is raised again.

    Args:
        config: The task's configuration, recorded as parameters.
        inputs: KFP input artifacts by role, recorded as datasets.
        memory: A file that remembers the run until it has finished, so that a task which is killed or fails and
            begins again goes on in the same one.
    """
    status.follow_runner()
    run = None
    try:
        run = _remembered(memory) or _task_run()
        _remember(run, memory)
        status.report(run_id=run.run_id)
        run.params(config or {})
        given = (inputs or {}).items()
        run.used({role: (str(artifact.metadata.get("digest", "")), str(artifact.uri)) for role, artifact in given})
        yield run
    except BaseException as error:
        status.fail(error)
        if run is not None:
            with contextlib.suppress(Exception):
                run.end(_outcome(error))
        raise
    run.end("FINISHED", FAREWELL_SECONDS)
    if memory is not None:
        memory.unlink(missing_ok=True)


def _task_run() -> TaskRun:
    """The run of this process's task, as the environment tells."""
    from mlflow.exceptions import MlflowException

    stage, adopted = os.environ.get(STAGE, "task"), os.environ.get("MLFLOW_RUN_ID")
    if adopted:
        try:
            client().get_run(adopted)
        except MlflowException as error:
            raise ConfigError(f"MLFLOW_RUN_ID={adopted!r} is no run at {tracking_uri()}. Unset it.") from error
        return TaskRun(adopted, stage, adopted=True)
    pipeline_run, alone = os.environ.get(PIPELINE_RUN), ""
    if not pipeline_run:
        pipeline_run = alone = f"alone-{uuid.uuid4().hex[:12]}"
    return TaskRun(nested_run(pipeline_run, stage), stage, alone=alone)


def _remembered(memory: Path | None) -> TaskRun | None:
    """The run that an earlier attempt at this task began, open again; None where there is none to go on with."""
    from mlflow.exceptions import MlflowException

    if memory is None or "MLFLOW_RUN_ID" in os.environ or not memory.exists():
        return None
    told = json.loads(memory.read_text())
    if os.environ.get(PIPELINE_RUN, "") != told["pipeline_run"]:
        return None
    try:
        for run_id in (told["run_id"], *(parents_of(told["alone"]) if told["alone"] else ())):
            client().update_run(run_id, status="RUNNING")
    except MlflowException:  # somebody has deleted it, or it is on another server
        return None
    return TaskRun(told["run_id"], os.environ.get(STAGE, "task"), alone=told["alone"])


def _remember(run: TaskRun, memory: Path | None) -> None:
    if memory is not None and not run.adopted:
        told = {"run_id": run.run_id, "alone": run.alone, "pipeline_run": os.environ.get(PIPELINE_RUN, "")}
        atomic.write_text(memory, json.dumps(told))


def _outcome(error: BaseException) -> str:
    """A task that somebody stopped was killed, not at fault: another attempt goes on with it."""
    return "FAILED" if isinstance(error, Exception) and not isinstance(error, Interrupted) else "KILLED"


def workspace() -> Path:
    """Where a killed task finds its work again: `HEADRACE_WORK`, a volume on a cluster, or under `home()`."""
    return Path(os.environ.get("HEADRACE_WORK", home() / "work")).absolute()
