"""A whole run on XLA: its checkpoints are those of any device, and it goes on from them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from headrace.config import encode
from headrace.training.optimizer import OptimizerConfig
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
