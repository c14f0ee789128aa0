"""Pipeline runs, their stages and their loss curves, as MLflow has them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from headrace.tracking import EXPERIMENT, PARENT_TAG, RUN_TAG, client

State = Literal["running", "done", "cached", "failed", "stopped"]
STATES: dict[str, State] = {
    "RUNNING": "running",
    "SCHEDULED": "running",
    "FINISHED": "done",
    "FAILED": "failed",
    "KILLED": "stopped",
}
PIPELINE, RECIPE, STAGE = "headrace.pipeline", "headrace.recipe", "headrace.stage"
CACHED, COMPUTED_BY, DIGEST = "headrace.cached", "headrace.computed_by", "headrace.digest"
LOSS = "loss"


@dataclass(frozen=True, kw_only=True, slots=True)
class PipelineRun:
    """One run of a whole pipeline."""

    run_id: str
    """Of its MLflow run, the parent of its stages' runs."""
    name: str
    pipeline: str
    recipe: str
    state: State
    started: float
    """Unix time, seconds."""
    seconds: float
    """It took so long, or has been running so long."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One task of a pipeline run."""

    run_id: str
    """Of the MLflow run with its metrics: its own, or the one that computed what the cache answered with."""
    name: str
    state: State
    started: float
    """Unix time, seconds."""
    seconds: float
    metrics: dict[str, float]
    """Last value of each."""
    digest: str
    """Of what it made; empty where it made nothing, or not yet."""


def pipeline_runs(limit: int = 100) -> list[PipelineRun]:
    """The last runs, newest first.

    Raises:
        UnavailableError: MLflow does not answer.
    """
    experiment = client().get_experiment_by_name(EXPERIMENT)
    if experiment is None:
        return []
    only_parents = f"tags.`{PARENT_TAG}` IS NULL"
    found = client().search_runs([experiment.experiment_id], only_parents, max_results=limit)
    return [_pipeline_run(run) for run in found]


def pipeline_run(run_id: str) -> PipelineRun:
    """One run as it stands now."""
    return _pipeline_run(client().get_run(run_id))


def stages(run: PipelineRun) -> list[Stage]:
    """What ran in a pipeline run, in the order it was begun."""
    experiment = client().get_experiment_by_name(EXPERIMENT)
    children = f"tags.`{PARENT_TAG}` = '{run.run_id}'"
    found = client().search_runs([experiment.experiment_id], children, max_results=1000)
    return sorted((_stage(child) for child in found), key=lambda stage: stage.started)


def latest(of: Sequence[Stage]) -> list[Stage]:
    """The last attempt at each stage: one that failed and was then retried counts as what the retry made of it."""
    return list({stage.name: stage for stage in of}.values())


def curves(of: Sequence[Stage], metric: str) -> dict[str, list[tuple[int, float]]]:
    """Step and value of a metric, by stage, for the stages that measured it over steps.

    The attempts at a stage make one curve, since each resumes where the one before it was stopped.
    """
    values: dict[str, dict[int, float]] = {}
    for stage in of:
        if metric in stage.metrics:
            history = client().get_metric_history(stage.run_id, metric)
            values.setdefault(stage.name, {}).update((point.step, point.value) for point in history)
    return {name: sorted(points.items()) for name, points in values.items() if len(points) > 1}


def measured_in_steps(of: Sequence[Stage]) -> list[str]:
    """Metrics of the stages that train, the loss first."""
    names = {name for stage in of if LOSS in stage.metrics for name in stage.metrics}
    return sorted(names, key=lambda name: (name != LOSS, name))


def _pipeline_run(run: Any) -> PipelineRun:
    tags = run.data.tags
    return PipelineRun(
        run_id=run.info.run_id,
        name=tags.get(RUN_TAG) or run.info.run_name,
        pipeline=tags.get(PIPELINE, ""),
        recipe=tags.get(RECIPE, ""),
        state=STATES[run.info.status],
        started=run.info.start_time / 1000,
        seconds=_seconds(run),
    )


def _stage(run: Any) -> Stage:
    tags = run.data.tags
    cached = tags.get(CACHED) == "true"
    computed = _computed(run, tags.get(COMPUTED_BY, "")) if cached else run
    return Stage(
        run_id=computed.info.run_id,
        name=tags.get(STAGE) or run.info.run_name,
        state="cached" if cached else STATES[run.info.status],
        started=run.info.start_time / 1000,
        seconds=_seconds(run),
        metrics=dict(computed.data.metrics),
        digest=computed.data.tags.get(DIGEST, ""),
    )


def _computed(run: Any, run_id: str) -> Any:
    """The run whose results the cache gave; the cached one itself where that was deleted since."""
    from mlflow.exceptions import MlflowException

    try:
        return client().get_run(run_id) if run_id else run
    except MlflowException:
        return run


def _seconds(run: Any) -> float:
    ended = run.info.end_time / 1000 if run.info.end_time else time.time()
    return max(0.0, ended - run.info.start_time / 1000)
