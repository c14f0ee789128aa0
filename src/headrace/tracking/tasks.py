"""A pipeline task and the MLflow run that its environment gives it."""

import contextlib
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace import status
from headrace.errors import ConfigError, Interrupted
from headrace.mlflow_server import client, home, tracking_uri
from headrace.tracking.runs import nested_run
from headrace.tracking.task_run import TaskRun

PIPELINE_RUN = "HEADRACE_PIPELINE_RUN"
STAGE = "HEADRACE_STAGE"
FAREWELL_SECONDS = 60
"""How long a finished task waits for a server that is away to take its last metrics."""


@contextlib.contextmanager
def task(config: Mapping[str, Any] | None = None, inputs: Mapping[str, Any] | None = None) -> Iterator[TaskRun]:
    """Run the body of one pipeline task inside its MLflow run.

    Adopts the run that KFP's MLflow plugin made (`MLFLOW_RUN_ID`), else makes a nested run under the
    parent that the environment names. An error ends the run as failed, reaches the runner as one line
    and is raised again.

    Args:
        config: The task's configuration, recorded as parameters.
        inputs: KFP input artifacts by role, recorded as datasets.
    """
    status.follow_runner()
    run = None
    try:
        run = _task_run()
        status.report(run_id=run.run_id)
        run.params(config or {})
        for role, artifact in (inputs or {}).items():
            run.used(role, str(artifact.metadata.get("digest", "")), str(artifact.uri))
        yield run
    except BaseException as error:
        status.fail(error)
        if run is not None:
            with contextlib.suppress(Exception):
                run.end(_outcome(error))
        raise
    run.end("FINISHED", FAREWELL_SECONDS)


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


def _outcome(error: BaseException) -> str:
    """A task that somebody stopped was killed, not at fault: another attempt goes on with it."""
    return "FAILED" if isinstance(error, Exception) and not isinstance(error, Interrupted) else "KILLED"


def workspace() -> Path:
    """Where a killed task finds its work again: `HEADRACE_WORK`, a volume on a cluster, or under `home()`."""
    return Path(os.environ.get("HEADRACE_WORK", home() / "work")).absolute()
