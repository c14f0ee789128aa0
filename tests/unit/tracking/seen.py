"""MLflow runs as tests find them."""

from typing import Any

from headrace import tracking
from headrace.tracking import client


def runs(pipeline_run: str) -> list[Any]:
    """Every run of a pipeline run, the parent first."""
    found = client().search_runs([tracking.experiment_id()], f"tags.`{tracking.RUN_TAG}` = '{pipeline_run}'")
    return sorted(found, key=lambda run: tracking.PARENT_TAG in run.data.tags)


def run_of(run_id: str) -> Any:
    return client().get_run(run_id)
