"""MLflow runs: one parent per pipeline run, one nested run per task, the same tree everywhere.

Who the parent is comes from the environment, never from a task's inputs, where it would change every
cache key. The embedded runner sets `HEADRACE_PIPELINE_RUN`; on a cluster the pod's `pipeline/runid`
label arrives in the same variable. Where KFP's own MLflow plugin has set `MLFLOW_RUN_ID`, that run is
the task's run and is adopted as it stands.
"""

import contextlib
import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from headrace import status
from headrace.artifacts import Manifest, summary
from headrace.errors import ConfigError, Interrupted, UnavailableError, shown
from headrace.mlflow_server import EXPERIMENT, client, home, impatience, tracking_uri

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

PIPELINE_RUN = "HEADRACE_PIPELINE_RUN"
STAGE = "HEADRACE_STAGE"
PARENT_TAG = "mlflow.parentRunId"
RUN_TAG = "headrace.pipeline_run_id"
BATCH = 100
"""Parameters, tags or metrics that one call to the tracking server may carry."""
SETTLE_SECONDS = 0.5
"""How long after it was made a parent run is seen by every task that began at the same moment."""
AWAY_SECONDS = 30
"""How long a server that did not take metrics is left alone before it is asked again."""
FAREWELL_SECONDS = 60
"""How long a finished task waits for a server that is away to take its last metrics."""

log = logging.getLogger(__name__)


class Tracker:
    """Where a step reports to; this base class swallows everything, for tests and scripts."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Record what was asked for."""

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record what was measured."""

    def tags(self, values: Mapping[str, str]) -> None:
        """Mark the run."""

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Say how far the step is, `fraction` between 0 and 1."""

    def machine(self) -> Mapping[str, float]:
        """What the machine is doing now, by the names of MLflow's system metrics."""
        return {}


def workspace() -> Path:
    """Where a killed task finds its work again: `HEADRACE_WORK`, a volume on a cluster, or under `home()`."""
    return Path(os.environ.get("HEADRACE_WORK", home() / "work")).absolute()


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
    found = _parents(pipeline_run)
    if found:
        return found[0]
    marks = {RUN_TAG: pipeline_run, **dict(tags or {})}
    made = str(client().create_run(experiment_id(), run_name=pipeline_run, tags=marks).info.run_id)
    # Tasks that begin together may each find none and make one. MLflow has no "create unless it exists", so each
    # waits until the others' are to be seen, and all of them keep the same one.
    time.sleep(SETTLE_SECONDS)
    kept = _parents(pipeline_run)[0]
    if kept != made:
        client().delete_run(made)
    return kept


def _parents(pipeline_run: str) -> list[str]:
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


class TaskRun(Tracker):
    """The nested MLflow run of one task.

    A tracking server that goes away during a long training run does not stop it: what could not be
    sent is kept and sent before whatever comes next.

    Args:
        run_id: The MLflow run.
        stage: The task's name in its pipeline.
        adopted: Whether somebody else made the run and will end it.
        alone: A pipeline run that was made for this task only and ends with it.
    """

    def __init__(self, run_id: str, stage: str, *, adopted: bool = False, alone: str = "") -> None:
        self.run_id = run_id
        self.stage = stage
        self.adopted = adopted
        self.alone = alone
        self._unsent: list[dict[str, Any]] = []
        self._ask_again = 0.0
        self._monitors: list[Any] = []

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

    def machine(self) -> Mapping[str, float]:
        """Load of processors, memory, disk, network and GPUs, as MLflow's own monitors see them."""
        self._monitors = self._monitors or _monitors()
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {f"system/{name}": float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found

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
        if time.monotonic() < self._ask_again:
            return
        try:
            self._flush()
        except UnavailableError as error:
            self._ask_again = time.monotonic() + AWAY_SECONDS
            log.warning("%d batches are kept for later. %s", len(self._unsent), error)

    def _flush(self) -> None:
        """Send what is kept, in order; what the server refuses for good must not hold up the rest."""
        from mlflow.exceptions import MlflowException

        while self._unsent:
            ((kind, items),) = self._unsent[0].items()
            alone: list[dict[str, Any]] = []
            try:
                with impatience():
                    client().log_batch(self.run_id, **self._unsent[0])
            except MlflowException as error:
                if len(items) > 1:
                    alone = [{kind: [item]} for item in items]
                else:
                    log.warning("MLflow refused %s: %s", items[0], shown(str(error)))
            self._unsent[:1] = alone

    def end(self, outcome: str, patience_seconds: float = 0) -> None:
        """Send what is kept and end the run, unless it was adopted.

        Args:
            outcome: `FINISHED`, `FAILED` or `KILLED`.
            patience_seconds: How long to wait for a server that is away; then its record stays as it is.
        """
        from mlflow.exceptions import MlflowException

        deadline = time.monotonic() + patience_seconds
        while True:
            try:
                self._flush()
                if not self.adopted:
                    client().set_terminated(self.run_id, outcome)
                if self.alone:
                    close_pipeline(self.alone, outcome)
            except UnavailableError as error:
                if time.monotonic() < deadline:
                    time.sleep(1)
                    continue
                log.warning("%d batches are lost, and the run stays open. %s", len(self._unsent), error)
            except MlflowException as error:  # somebody has deleted the run
                log.warning("MLflow did not end run %s: %s", self.run_id, shown(str(error)))
            return


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


def _monitors() -> list[Any]:
    """MLflow's monitors of this machine; that of GPUs refuses to be made where there are none."""
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    monitors: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    with contextlib.suppress(Exception):
        monitors.append(GPUMonitor())
    return monitors


def _outcome(error: BaseException) -> str:
    """A task that somebody stopped was killed, not at fault: another attempt goes on with it."""
    return "FAILED" if isinstance(error, Exception) and not isinstance(error, Interrupted) else "KILLED"


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


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted names, as MLflow shows parameters."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
