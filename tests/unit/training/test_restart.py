"""A worker that is killed under torchrun's agent: all start again, and stay one run of MLflow."""

import json
import os
import signal
from pathlib import Path
from typing import Any

from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from headrace import storage, tracking
from headrace.artifacts import Checkpoint
from headrace.config import encode
from headrace.tracking import client
from headrace.training import loop
from headrace.training.job import read_job, run_job
from headrace.training.step import StepResult, take_step
from tests.processes import free_port
from tests.unit.training.test_job import write_job
from tests.unit.training.together import PATIENCE_SECONDS, context

STEPS, EVERY, KILLED_AFTER = 8, 3, 5


def agent(job: Path, root: Path, surroundings: dict[str, str]) -> None:
    """What `torchrun --nproc-per-node 2 --max-restarts 1` does in these surroundings."""
    os.environ.update(surroundings)  # the process it is forked from may have begun in another test's
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        rdzv_backend="static",
        rdzv_endpoint=f"127.0.0.1:{free_port()}",
        rdzv_configs={"rank": 0},
        max_restarts=1,
        monitor_interval=0.05,
        start_method="fork",
        logs_specs=DefaultLogsSpecs(log_dir=str(root / "logs")),
    )
    elastic_launch(config, worker)(job)


def worker(job: Path) -> None:
    """Run the job; the first time, the main process is killed after some steps."""
    killed = os.environ["RANK"] == "0" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def step(*given: Any, **more: Any) -> StepResult:
        if killed and given[4] > KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)
        return take_step(*given, **more)

    loop.take_step = step
    run_job(read_job(job))


def test_a_worker_that_is_killed_and_started_again_goes_on_in_one_run_of_mlflow(
    tiny, tmp_path: Path, mlflow_store: Path
) -> None:
    config = encode(tiny.config) | {"steps": STEPS, "log_every_steps": 1, "checkpoint_every_steps": EVERY}
    job = write_job(tiny, tmp_path, config=config)
    process = context().Process(target=agent, args=(job, tmp_path, dict(os.environ)))
    process.start()
    process.join(PATIENCE_SECONDS)
    assert process.exitcode == 0
    runs = client().search_runs([tracking.experiment_id()])
    (run,) = (run for run in runs if tracking.PARENT_TAG in run.data.tags)
    assert (len(runs), {run.info.status for run in runs}) == (2, {"FINISHED"})
    assert storage.read(run.data.tags["headrace.uri"], Checkpoint).facts.step == STEPS
    told = [(point.step, point.value) for point in client().get_metric_history(run.info.run_id, "loss")]
    # Those since the last checkpoint are taken again, to the same bits, and told again.
    assert [step for step, _ in told] == [*range(1, KILLED_AFTER + 1), *range(EVERY + 1, STEPS + 1)]
    (log,) = (tmp_path / "work").glob("*/losses.jsonl")
    logged = [(line["step"], line["loss"]) for line in map(json.loads, log.read_text().splitlines())]
    assert sorted(set(told)) == logged
