"""A training run described by a file, for processes that nobody passes Python objects to.

`torchrun --nproc-per-node 8 -m headrace.training JOB.json` runs it on the GPUs of a machine, a cluster's
TrainJob on those of many; `python -m headrace.training JOB.json` in one process.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

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
        if isinstance(tracker, TaskRun):
            tracker.made(SimpleNamespace(metadata={}, uri=job.output), manifest, f"loss {manifest.facts.loss:.3f}")
    return manifest


@contextlib.contextmanager
def _tracker(job: TrainJob) -> Iterator[Tracker]:
    """The MLflow run that the environment names, in the main process; elsewhere nothing is tracked."""
    named = any(name in os.environ for name in ("MLFLOW_RUN_ID", "MLFLOW_TRACKING_URI"))
    if not (named and launch().is_main):
        yield Tracker()
        return
    # torchrun starts everybody again when a process dies, and what follows is the same run.
    with task(encode(job.config), memory=_workspace(job) / f"mlflow-{_digest(job)}.json") as run:
        yield run


def _workspace(job: TrainJob) -> Path:
    return workspace() if job.workspace is None else Path(job.workspace)


def _digest(job: TrainJob) -> str:
    return hashlib.sha256(json.dumps(encode(job), sort_keys=True).encode()).hexdigest()[:16]
