"""The tree of MLflow runs: an experiment, one parent per pipeline run, one nested run per task."""

import os
import time
from collections.abc import Mapping

from headrace.errors import UnavailableError
from headrace.mlflow_server import EXPERIMENT, client, home, tracking_uri

PARENT_TAG = "mlflow.parentRunId"
RUN_TAG = "headrace.pipeline_run_id"
SETTLE_SECONDS = 0.5
"""How long after it was made a parent run is seen by every task that began at the same moment."""


def experiment_id(name: str = EXPERIMENT) -> str:
    """The id of one of headrace's experiments, created on first use."""
    from mlflow.exceptions import MlflowException

    found = client().get_experiment_by_name(name)
    if found is not None and found.lifecycle_stage == "deleted":
        raise UnavailableError(
            f"MLflow's experiment {name!r} was deleted. Restore it with "
            f"`mlflow experiments restore --experiment-id {found.experiment_id}`."
        )
    if found is not None:
        return str(found.experiment_id)
    # A file store needs a place of its own, or MLflow writes into the working directory.
    place = (home() / "mlartifacts").as_uri() if tracking_uri().startswith("sqlite:") else None
    try:
        return str(client().create_experiment(name, artifact_location=place))
    except MlflowException:  # another task created it in between
        return str(client().get_experiment_by_name(name).experiment_id)


def parent_run(pipeline_run: str, tags: Mapping[str, str] | None = None) -> str:
    """Find or create the MLflow run that stands for a whole pipeline run.

    Args:
        pipeline_run: Id of the pipeline run; all its tasks share it.
        tags: What to mark a new parent with, such as its pipeline and recipe.
    """
    found = parents_of(pipeline_run)
    if found:
        return found[0]
    marks = {RUN_TAG: pipeline_run, **dict(tags or {})}
    made = str(client().create_run(experiment_id(), run_name=pipeline_run, tags=marks).info.run_id)
    # Tasks that begin together may each find none and make one. MLflow has no "create unless it exists", so each
    # waits until the others' are to be seen, and all of them keep the same one.
    time.sleep(SETTLE_SECONDS)
    kept = parents_of(pipeline_run)[0]
    if kept != made:
        client().delete_run(made)
    return kept


def parents_of(pipeline_run: str) -> list[str]:
    """Parent runs of a pipeline run, the one to keep first."""
    mine = f"tags.`{RUN_TAG}` = '{pipeline_run}'"
    # The oldest first: a parent is there before its children, of which there may be any number.
    found = client().search_runs([experiment_id()], mine, max_results=50, order_by=["attributes.start_time ASC"])
    parents = [run for run in found if PARENT_TAG not in run.data.tags]
    return [run.info.run_id for run in sorted(parents, key=lambda run: (run.info.start_time, run.info.run_id))]


def nested_run(pipeline_run: str, stage: str, tags: Mapping[str, str] | None = None) -> str:
    """Create the run of one task under the parent of its pipeline run."""
    marks = {
        PARENT_TAG: parent_run(pipeline_run),
        RUN_TAG: pipeline_run,
        "headrace.stage": stage,
        "headrace.cached": "false",
        **dict(tags or {}),
    }
    return str(client().create_run(experiment_id(), run_name=stage, tags=marks).info.run_id)


def record_cached(pipeline_run: str, stage: str, computed_by: str) -> str:
    """Record a task that the cache answered: its run is marked and linked to the one that computed it."""
    run_id = nested_run(pipeline_run, stage, {"headrace.cached": "true", "headrace.computed_by": computed_by})
    client().set_terminated(run_id, "FINISHED")
    return run_id


def close_pipeline(pipeline_run: str, outcome: str) -> int:
    """End the parent run with `FINISHED`, `FAILED` or `KILLED`, and whatever a killed task left open.

    Returns:
        How many nested runs had been left open.
    """
    runs = client().search_runs(
        [experiment_id()], f"tags.`{RUN_TAG}` = '{pipeline_run}' and attributes.status = 'RUNNING'", max_results=1000
    )
    own = os.environ.get("MLFLOW_RUN_ID")
    left_open = [run for run in runs if PARENT_TAG in run.data.tags and run.info.run_id != own]
    for run in left_open:
        client().set_terminated(run.info.run_id, "KILLED")
    for run in runs:
        if PARENT_TAG not in run.data.tags:
            client().set_terminated(run.info.run_id, outcome)
    return len(left_open)
