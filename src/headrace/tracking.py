"""MLflow runs: one parent per pipeline run, one nested run per task, the same tree everywhere.

Who the parent is comes from the environment, never from a task's inputs, where it would change every
cache key. The embedded runner sets `HEADRACE_PIPELINE_RUN`; on a cluster the pod's `pipeline/runid`
label arrives in the same variable. Where KFP's own MLflow plugin has set `MLFLOW_RUN_ID`, that run is
the task's run and is adopted as it stands.
"""

import contextlib
import functools
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace import status
from headrace.artifacts import Manifest, summary
from headrace.errors import UnavailableError

EXPERIMENT = "headrace"
PIPELINE_RUN = "HEADRACE_PIPELINE_RUN"
STAGE = "HEADRACE_STAGE"
PARENT_TAG = "mlflow.parentRunId"
RUN_TAG = "headrace.pipeline_run_id"
BATCH = 100
"""Parameters, tags or metrics that one call to the tracking server may carry."""

log = logging.getLogger(__name__)


class Tracker:
    """Where a step reports to; this base class swallows everything, for tests and scripts."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record what was asked for."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record what was measured."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Say how far the step is, `fraction` between 0 and 1."""


def home() -> Path:
    """Directory of runs, artifacts and the embedded MLflow store: `.headrace`, or `HEADRACE_HOME`."""
    return Path(os.environ.get("HEADRACE_HOME", ".headrace")).absolute()


def workspace() -> Path:
    """Where a killed task finds its work again: `HEADRACE_WORK`, a volume on a cluster, or under `home()`."""
    return Path(os.environ.get("HEADRACE_WORK", home() / "work")).absolute()


def tracking_uri() -> str:
    """The MLflow server of the environment, or a SQLite file under `home()`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home() / 'mlflow.db'}"


@functools.cache
def client() -> Any:
    """An `MlflowClient` on `tracking_uri()`, checked once for an answer.

    Raises:
        UnavailableError: The server or the file does not answer.
    """
    # A silent server should be named within seconds; MLflow's own patience is several minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    uri = tracking_uri()
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    try:
        mlflow.set_tracking_uri(uri)
        made = mlflow.MlflowClient(uri, uri)
        made.get_experiment_by_name(EXPERIMENT)
    except Exception as error:
        raise _unreachable(error) from error
    return made


def _unreachable(error: Exception) -> UnavailableError:
    reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
    return UnavailableError(
        f"MLflow at {tracking_uri()} does not answer ({reason}). Start it or set MLFLOW_TRACKING_URI."
    )


def experiment_id() -> str:
    """The id of headrace's experiment, created on first use."""
    from mlflow.exceptions import MlflowException

    found = client().get_experiment_by_name(EXPERIMENT)
    if found is not None:
        return str(found.experiment_id)
    # A file store needs a place of its own, or MLflow writes into the working directory.
    place = (home() / "mlartifacts").as_uri() if tracking_uri().startswith("sqlite:") else None
    try:
        return str(client().create_experiment(EXPERIMENT, artifact_location=place))
    except MlflowException:  # another task created it in between
        return str(client().get_experiment_by_name(EXPERIMENT).experiment_id)


def parent_run(pipeline_run: str, tags: Mapping[str, str] | None = None) -> str:
    """Find or create the MLflow run that stands for a whole pipeline run.

    Args:
        pipeline_run: Id of the pipeline run; all its tasks share it.
        tags: What to mark a new parent with, such as its pipeline and recipe.
    """
    found = client().search_runs([experiment_id()], f"tags.`{RUN_TAG}` = '{pipeline_run}'", max_results=50)
    parents = [run for run in found if PARENT_TAG not in run.data.tags]
    if parents:
        return str(min(parents, key=lambda run: run.info.start_time).info.run_id)
    made = client().create_run(experiment_id(), run_name=pipeline_run, tags={RUN_TAG: pipeline_run, **dict(tags or {})})
    return str(made.info.run_id)


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


class TaskRun(Tracker):
    """The nested MLflow run of one task.

    A tracking server that goes away during a long training run does not stop it: what could not be
    sent is kept and sent before whatever comes next.
    """

    def __init__(self, run_id: str, stage: str) -> None:
        self.run_id = run_id
        self.stage = stage
        self._unsent: list[dict[str, Any]] = []

    def params(self, values: Mapping[str, Any]) -> None:
        """Record what was asked for; nested sections become dotted names."""
        from mlflow.entities import Param

        self._send("params", [Param(key, str(value)[:6000]) for key, value in flatten(values).items()])

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record what was measured, at `step` where it belongs to one."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._send("metrics", [Metric(name, float(value), now, step or 0) for name, value in values.items()])

    def tags(self, values: Mapping[str, str]) -> None:
        """Mark the run."""
        from mlflow.entities import RunTag

        self._send("tags", [RunTag(key, str(value)) for key, value in values.items()])

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""
        client().log_artifact(self.run_id, str(path), folder or None)

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Say how far the step is; the runner shows it beside the stage."""
        status.report(text=text, fraction=fraction)

    def used(self, role: str, digest: str, uri: str) -> None:
        """Record an input artifact as an MLflow dataset, so that lineage can be followed in its UI."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        dataset = Dataset(name=role, digest=digest[:36], source_type="headrace", source=uri)
        client().log_inputs(self.run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", role)])])

    def made(self, output: Any, manifest: Manifest, headline: str = "") -> None:
        """Put the digest and facts of a sealed output into its KFP metadata and this run's tags.

        The digest in the metadata is what makes the cache keys of later tasks follow content.

        Args:
            output: The KFP output artifact, or anything with `metadata` and `uri`.
            manifest: What sealed the directory.
            headline: The one number worth showing beside the stage.
        """
        output.metadata.update(digest=manifest.digest, kind=type(manifest.facts).kind, **summary(manifest.facts))
        self.tags({"headrace.digest": manifest.digest, "headrace.uri": str(output.uri)})
        status.report(headline=headline, digest=manifest.digest)

    def _send(self, kind: str, items: list[Any]) -> None:
        self._unsent += [{kind: items[start : start + BATCH]} for start in range(0, len(items), BATCH)]
        try:
            while self._unsent:
                client().log_batch(self.run_id, **self._unsent[0])
                self._unsent.pop(0)
        except Exception as error:
            log.warning("MLflow did not take %d batches, kept for later: %s", len(self._unsent), error)


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
    adopted = os.environ.get("MLFLOW_RUN_ID")
    stage = os.environ.get(STAGE, "task")
    run = TaskRun(adopted or nested_run(os.environ.get(PIPELINE_RUN, f"alone-{os.getpid()}"), stage), stage)
    status.report(run_id=run.run_id)
    try:
        run.params(config or {})
        for role, artifact in (inputs or {}).items():
            run.used(role, str(artifact.metadata.get("digest", "")), str(artifact.uri))
        yield run
    except BaseException as error:
        status.fail(error)
        if not adopted:
            with contextlib.suppress(Exception):
                client().set_terminated(run.run_id, "FAILED" if isinstance(error, Exception) else "KILLED")
        raise
    if not adopted:
        client().set_terminated(run.run_id, "FINISHED")


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted names, as MLflow shows parameters."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
