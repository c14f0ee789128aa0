"""A whole run on XLA: its checkpoints are those of any device, and it goes on from them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.config import encode
from headrace.training.optimizer import OptimizerConfig
from tests.project import make_project
from tests.unit.training.conftest import tiny
from tests.unit.training.together import losses
from tests.xla.test_spmd import start

__all__ = ["tiny"]


def test_a_run_on_xla_resumes_to_the_last_bit_and_takes_the_steps_of_a_cpu(tiny, tmp_path: Path) -> None:
    config = replace(tiny.config, steps=4, checkpoint_every_steps=2, optimizer=OptimizerConfig(eps=1e-3))
    job = {"sources": tiny.sources, "tokenizer": tiny.tokenizer, "config": encode(config)}
    for name in ("first", "again", "eager"):
        (tmp_path / f"{name}.json").write_text(json.dumps(job | {"output": str(tmp_path / name)}))

    def run(name: str, work: str, **env: str) -> bytes:
        ended = start("-m", "headrace.training", str(tmp_path / name), HEADRACE_WORK=str(tmp_path / work), **env)
        assert ended.returncode == 0, ended.stderr
        return losses(tmp_path / work)

    straight = run("first.json", "xla")
    (last,) = (tmp_path / "xla").glob("*/step-00000004")
    shutil.rmtree(last)
    assert run("again.json", "xla") == straight
    first, again = (tmp_path / name / "model.safetensors" for name in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()

    eager = run("eager.json", "cpu", HEADRACE_DEVICE="cpu")
    for mine, theirs in zip(straight.splitlines(), eager.splitlines(), strict=True):
        assert json.loads(mine)["loss"] == pytest.approx(json.loads(theirs)["loss"], rel=1e-5)


def test_a_run_on_xla_that_is_killed_and_resumed_is_certified(tmp_path: Path) -> None:
    project = make_project(tmp_path / "project")
    asked = ("verify", "resume", "--recipe", "tiny", "--steps", "12", "--kills", "2", "--seed", "1", "--json")
    ended = start("-m", "headrace.cli", *asked, cwd=project, HEADRACE_HOME=str(tmp_path / "home"))
    assert ended.returncode == 0, ended.stderr + ended.stdout
    told = json.loads(ended.stdout)
    assert told["passed"] and len(told["killed_at"]) == 2
    assert told["device"].startswith("xla")
    assert told["digests"].keys() >= {"parameters", "optimizer moments", "random numbers", "sample stream"}
