"""The MLflow run of one task, and what is told there."""

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace import status
from headrace.artifacts import Manifest, summary
from headrace.errors import UnavailableError, shown
from headrace.mlflow_server import client
from headrace.tracking.machine import Machine
from headrace.tracking.outbox import Outbox
from headrace.tracking.runs import close_pipeline
from headrace.tracking.tracker import Tracker

log = logging.getLogger(__name__)

DATASETS_A_CALL = 1000
"""MLflow looks for all of a call in one query, and SQLite takes 32,766 values in it."""
DIGEST_LENGTH = 36
"""What MLflow keeps of a digest."""
RACES = 5
"""Attempts at recording datasets: turns of a loop begin together, and MLflow looks for one before it makes it."""


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
        self._outbox = Outbox(run_id)
        self._machine = Machine()

    def params(self, values: Mapping[str, Any]) -> None:
        """Record what was asked for; nested sections become dotted names."""
        from mlflow.entities import Param

        self._outbox.send("params", [Param(key, str(value)[:6000]) for key, value in flatten(values).items()])

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Record what was measured, at `step` where it belongs to one."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self._outbox.send("metrics", [Metric(name, float(value), now, step or 0) for name, value in values.items()])

    def tags(self, values: Mapping[str, str]) -> None:
        """Mark the run."""
        from mlflow.entities import RunTag

        self._outbox.send("tags", [RunTag(key, str(value)) for key, value in values.items()])

    def artifact(self, path: Path, folder: str = "") -> None:
        """Keep a file with the run."""
        client().log_artifact(self.run_id, str(path), folder or None)

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Say how far the step is; the runner shows it beside the stage."""
        status.report(text=text, fraction=fraction)

    def machine(self) -> Mapping[str, float]:
        """Load of processors, memory, disk, network and GPUs, as MLflow's own monitors see them."""
        return self._machine.load()

    def used(self, inputs: Mapping[str, tuple[str, str]]) -> None:
        """Record what the task is given as MLflow datasets, so that lineage can be followed in its UI.

        Args:
            inputs: Digest and URI of each, by role.
        """
        from mlflow.entities import Dataset, DatasetInput, InputTag

        datasets = [
            DatasetInput(
                Dataset(name=role, digest=digest[:DIGEST_LENGTH], source_type="headrace", source=uri),
                [InputTag("mlflow.data.context", role)],
            )
            for role, (digest, uri) in inputs.items()
        ]
        for begin in range(0, len(datasets), DATASETS_A_CALL):
            self._record(datasets[begin : begin + DATASETS_A_CALL])

    def _record(self, datasets: list[Any]) -> None:
        from mlflow.exceptions import MlflowException

        for attempt in range(RACES):
            try:
                client().log_inputs(self.run_id, datasets)
                break
            except MlflowException as error:
                if error.error_code != "BAD_REQUEST" or attempt == RACES - 1:
                    raise

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
                self._outbox.flush()
                if not self.adopted:
                    client().set_terminated(self.run_id, outcome)
                if self.alone:
                    close_pipeline(self.alone, outcome)
            except UnavailableError as error:
                if time.monotonic() < deadline:
                    time.sleep(1)
                    continue
                log.warning("%d batches are lost, and the run stays open. %s", len(self._outbox), error)
            except MlflowException as error:  # somebody has deleted the run
                log.warning("MLflow did not end run %s: %s", self.run_id, shown(str(error)))
            return


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested sections as one level of dotted names, as MLflow shows parameters."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
