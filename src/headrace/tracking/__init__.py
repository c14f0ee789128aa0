"""MLflow runs: one parent per pipeline run, one nested run per task, the same tree everywhere.

Who the parent is comes from the environment, never from a task's inputs, where it would change every
cache key. The embedded runner sets `HEADRACE_PIPELINE_RUN`; on a cluster the pod's `pipeline/runid`
label arrives in the same variable. Where KFP's own MLflow plugin has set `MLFLOW_RUN_ID`, that run is
the task's run and is adopted as it stands.
"""

from headrace.mlflow_server import EXPERIMENT, client, home, tracking_uri
from headrace.tracking.runs import (
    PARENT_TAG,
    RUN_TAG,
    close_pipeline,
    experiment_id,
    nested_run,
    parent_run,
    record_cached,
)
from headrace.tracking.task_run import TaskRun, flatten
from headrace.tracking.tasks import PIPELINE_RUN, STAGE, task, workspace
from headrace.tracking.tracker import Tracker

__all__ = [
    "EXPERIMENT",
    "PARENT_TAG",
    "PIPELINE_RUN",
    "RUN_TAG",
    "STAGE",
    "TaskRun",
    "Tracker",
    "client",
    "close_pipeline",
    "experiment_id",
    "flatten",
    "home",
    "nested_run",
    "parent_run",
    "record_cached",
    "task",
    "tracking_uri",
    "workspace",
]
