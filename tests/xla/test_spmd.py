"""Steps compiled by XLA and cut over four devices of its CPU client, against the same steps taken eagerly."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE, ROOT = Path(__file__).parent, Path(__file__).parents[2]
CPU_CLIENT = {
    "HEADRACE_DEVICE": "xla",
    "PJRT_DEVICE": "CPU",
    "CPU_NUM_DEVICES": "4",
    "XLA_FLAGS": "--xla_backend_optimization_level=0",  # compiles five times faster
    "PYTHONPATH": str(ROOT / "src"),
}


def start(*arguments: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env={**os.environ, **CPU_CLIENT, **env}, capture_output=True, text=True
    )


@pytest.fixture(scope="module", params=["", "data=2,tensor=2"])
def trial(request) -> dict[str, Any]:
    ended = start(str(HERE / "trial.py"), "fp32", HEADRACE_MESH=request.param)
    assert ended.returncode == 0, ended.stderr
    return {**json.loads(ended.stdout), "mesh": request.param}


def test_every_step_is_the_eager_one(trial) -> None:
    for name in ("losses", "norms"):
        assert trial[name]["xla"] == pytest.approx(trial[name]["eager"], rel=1e-5)
    assert trial["weights"] < 1e-5
    assert trial["moments"] < 1e-5


def test_nothing_is_compiled_after_the_second_step(trial) -> None:
    _, second, *later = trial["compilations"]["xla"]
    assert set(later) == {second}


def test_weights_are_cut_over_the_devices_and_stay_so(trial) -> None:
    assert trial["devices"] == 4
    halves = trial["mesh"] == "data=2,tensor=2"
    for cuts in (trial["trained"], trial["restored"]["cuts"]):
        assert cuts["layers.0.out.weight"].startswith("{devices=[2,2]" if halves else "{devices=[4,1]")
        assert cuts["layers.1.qkv.weight"].startswith("{devices=[2,2]" if halves else "{devices=[1,4]")
        assert cuts["embedding.weight"].startswith("{devices=[2,1,2]" if halves else "{devices=[4,1]")


def test_whole_weights_are_loaded_as_they_are(trial) -> None:
    assert trial["restored"]["furthest"] == 0.0


def test_a_mesh_that_does_not_fill_the_devices_is_refused() -> None:
    code = "from headrace.training.parallel import launch; launch()"
    ended = start("-c", code, HEADRACE_MESH="data=3")
    assert "HEADRACE_MESH='data=3' lays out 3 processes or XLA devices, and there are 4." in ended.stderr


def test_several_processes_for_xla_are_refused() -> None:
    ended = start("-c", "from headrace.training.parallel import launch; launch()", WORLD_SIZE="2", RANK="0")
    assert "2 processes were started for XLA, where one process drives all devices" in ended.stderr
