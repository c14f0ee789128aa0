import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headrace import status, storage, tracking
from headrace.artifacts import Checkpoint
from headrace.config import encode
from headrace.errors import ConfigError
from headrace.tracking import client
from headrace.training.__main__ import main
from headrace.training.averaging import AveragingConfig
from headrace.training.job import read_job, run_job
from tests.processes import free_port
from tests.unit.training.together import context

ROOT = Path(__file__).parents[3]


def start(launcher: list[str], job: Path, **env: str) -> subprocess.CompletedProcess[str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "HEADRACE_"))}
    return subprocess.run(
        [sys.executable, *launcher, "-m", "headrace.training", str(job)],
        env={**kept, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src"), **env},
        capture_output=True,
        text=True,
    )


def write_job(tiny, root: Path, **changes: Any) -> Path:
    job = {
        "sources": tiny.sources,
        "tokenizer": tiny.tokenizer,
        "output": str(root / "out"),
        "config": encode(replace(tiny.config, steps=3)),
        "workspace": str(root / "work"),
    }
    (root / "job.json").write_text(json.dumps(job | changes))
    return root / "job.json"


def test_torchrun_trains_what_a_file_describes(tiny, tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    ended = start(torchrun, write_job(tiny, tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert storage.read(tmp_path / "out", Checkpoint).facts.step == 3


def one_of_two(env: dict[str, str], job: Path, said: Path) -> None:
    os.environ.update(env)
    sys.stderr = said.open("w")
    sys.exit(main([str(job)]))


@pytest.mark.parametrize("averaging", ["none", "diloco"])
def test_a_process_that_loses_another_ends_with_one_line(averaging: str, tiny, tmp_path: Path) -> None:
    config = replace(tiny.config, steps=5_000, averaging=AveragingConfig(kind=averaging, every_steps=5))
    job, port = write_job(tiny, tmp_path, config=encode(config)), str(free_port())
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    both = [
        context().Process(target=one_of_two, args=({**shared, "RANK": rank}, job, tmp_path / rank)) for rank in "01"
    ]
    for process in both:
        process.start()
    while not sum(path.read_bytes().count(b"\n") for path in tmp_path.glob("work/*/losses.jsonl")):
        assert all(process.is_alive() for process in both)
        time.sleep(0.01)
    both[1].kill()
    both[0].join(60)
    assert both[0].exitcode == 1
    (line,) = (tmp_path / "0").read_text().splitlines()
    assert line.startswith("Another process of this run is gone or does not answer (")
    assert line.endswith("Start all of them again, as torchrun does by itself: they go on from the last checkpoint.")


@pytest.mark.parametrize(
    ("changes", "env", "said"),
    [
        ({"initial": "x"}, {}, "TrainJob has no key 'initial'. Did you mean 'init'?"),
        ({}, {"HEADRACE_DEVICE": "gpu"}, "HEADRACE_DEVICE='gpu' is no kind of device. Did you mean 'cpu'?"),
    ],
)
def test_a_job_that_cannot_run_ends_with_one_line(changes, env, said: str, tiny, tmp_path: Path) -> None:
    ended = start([], write_job(tiny, tmp_path, **changes), **env)
    assert (ended.returncode, ended.stderr.splitlines()) == (2, [said])


def test_a_job_that_fails_and_is_run_again_is_one_run_of_mlflow(
    tiny, tmp_path: Path, mlflow_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "_said", {})
    (tmp_path / "models").write_text("in the way")
    job = read_job(write_job(tiny, tmp_path, output=str(tmp_path / "models" / "out")))
    with pytest.raises(ConfigError, match="cannot be written"):
        run_job(job)
    (tmp_path / "models").unlink()
    run_job(job)
    runs = client().search_runs([tracking.experiment_id()])
    (run,) = (run for run in runs if tracking.PARENT_TAG in run.data.tags)
    assert (len(runs), {run.info.status for run in runs}) == (2, {"FINISHED"})
    assert run.data.tags["headrace.uri"] == job.output
    used = {one.dataset.name: (one.dataset.digest, one.dataset.source) for one in run.inputs.dataset_inputs}
    given = {**job.sources, "tokenizer": job.tokenizer}
    assert used == {role: (storage.read_manifest(uri).digest[:36], uri) for role, uri in given.items()}
    assert len(run.inputs.dataset_inputs) == len(given)
