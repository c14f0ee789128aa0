"""A training run described by a file, for processes that nobody passes Python objects to.

`torchrun --nproc-per-node 8 -m headrace.training JOB.json` runs it on the GPUs of a machine, a cluster's
TrainJob on those of many; `python -m headrace.training JOB.json` in one process.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from headrace import storage
from headrace.artifacts import Manifest
from headrace.config import decode, encode
from headrace.errors import ConfigError
from headrace.tracking import TaskRun, Tracker, task, workspace
from headrace.training.config import TrainConfig
from headrace.training.loop import train
from headrace.training.parallel import launch


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainJob:
    """What `train` is given, as JSON values."""

    sources: dict[str, str]
    """URIs of `TokenShards`, by the names that `config.data.sources` uses."""
    tokenizer: str
    """URI of the tokenizer that made them."""
    output: str
    """Where the checkpoint appears once it is complete."""
    config: TrainConfig
    init: str | None = None
    """URI of the checkpoint whose weights to start from."""
    workspace: str | None = None
    """Durable directory that all processes see; `HEADRACE_WORK` where it is left out."""


class OnceMain(Tracker):
    """A tracker that is opened when there is something to tell: by the main worker, whichever becomes it.

    Args:
        opening: Opens it.
    """

    def __init__(self, opening: Callable[[], Tracker]) -> None:
        self._opening = opening
        self.opened: Tracker | None = None
        """The tracker itself, where there has been anything to tell."""

    def _open(self) -> Tracker:
        self.opened = self.opened or self._opening()
        return self.opened

    def params(self, values: Mapping[str, Any]) -> None:
        """Tell it."""
        self._open().params(values)

    def metrics(self, values: Mapping[str, float], step: int | None = None) -> None:
        """Tell it."""
        self._open().metrics(values, step)

    def tags(self, values: Mapping[str, str]) -> None:
        """Tell it."""
        self._open().tags(values)

    def artifact(self, path: Path, folder: str = "") -> None:
        """Tell it."""
        self._open().artifact(path, folder)

    def progress(self, text: str, fraction: float | None = None) -> None:
        """Tell it."""
        self._open().progress(text, fraction)

    def machine(self) -> Mapping[str, float]:
        """What it says."""
        return self._open().machine()


def read_job(path: Path) -> TrainJob:
    """Read a job from a file of JSON.

    Raises:
        ConfigError: No such file, no JSON, or not a job.
    """
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} is no file of JSON ({error}). Give a training job written as JSON.") from error
    return decode(TrainJob, values)


def run_job(job: TrainJob) -> Manifest:
    """Train, in this process and in all that were started beside it."""
    with _tracker(job) as tracker:
        manifest = train(
            job.sources,
            job.tokenizer,
            job.output,
            job.config,
            init_uri=job.init,
            workspace=_workspace(job),
            tracker=tracker,
        )
        told = tracker.opened if isinstance(tracker, OnceMain) else tracker
        if isinstance(told, TaskRun):
            told.made(SimpleNamespace(metadata={}, uri=job.output), manifest, f"loss {manifest.facts.loss:.3f}")
    return manifest


@contextlib.contextmanager
def _tracker(job: TrainJob) -> Iterator[Tracker]:
    """The MLflow run that the environment names, in the main process; elsewhere nothing is tracked."""
    named, replicas = any(name in os.environ for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI")), launch()
    apart = replicas.link is not None
    if not named or not (apart or replicas.is_main):
        yield Tracker()
        return
    # Everybody is started again, or another worker goes on, when a process dies; what follows is the same run.
    opening = task(encode(job.config), _inputs(job), _workspace(job) / f"mlflow-{_digest(job)}.json")
    if not apart:
        with opening as run:
            yield run
        return
    with contextlib.ExitStack() as stack:
        yield OnceMain(lambda: stack.enter_context(opening))


def _inputs(job: TrainJob) -> dict[str, Any]:
    """What the job reads, by role, as a component would have it from KFP; what is no artifact is left to `train`."""
    named = {**job.sources, "tokenizer": job.tokenizer, **({"parent": job.init} if job.init else {})}
    sealed = {role: storage.read_manifest(uri).digest for role, uri in named.items() if storage.exists(uri)}
    return {role: SimpleNamespace(metadata={"digest": digest}, uri=named[role]) for role, digest in sealed.items()}


def _workspace(job: TrainJob) -> Path:
    return workspace() if job.workspace is None else Path(job.workspace)


def _digest(job: TrainJob) -> str:
    return hashlib.sha256(json.dumps(encode(job), sort_keys=True).encode()).hexdigest()[:16]
