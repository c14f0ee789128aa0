"""The trial of resumption itself: it passes what resumes exactly, and finds what does not."""

import json
import multiprocessing
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from headrace import storage
from headrace.artifacts import ResumeCertificate
from headrace.data.loader import BatchStream
from headrace.errors import ConfigError, TrainingError
from headrace.training import certificate
from headrace.training.certificate import certify, code_version
from headrace.training.guard import GuardConfig
from headrace.training.loop import train
from headrace.training.rehearsal import shortened
from headrace.training.run import Run

STEPS = 48


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def tried(tiny, output: Path, work: Any = train, **changes: Any) -> ResumeCertificate:
    config = shortened(tiny.config, STEPS)
    arguments = {"sources": tiny.sources, "tokenizer_uri": tiny.tokenizer, "config": config}
    about = {"recipe": "tiny", "stage": "pretraining", "kills": 2, "seed": 1} | changes
    manifest = certify(arguments, output, work=work, **about)
    assert storage.read(output, ResumeCertificate).digest == manifest.digest
    return manifest.facts


def test_a_run_that_resumes_exactly_is_certified(tiny, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    facts = tried(tiny, tmp_path / "c", told=lambda run, step: told.append((run, step)))
    assert facts.passed and not facts.differences
    assert (facts.recipe, facts.stage, facts.steps) == ("tiny", "pretraining", STEPS)
    assert len(facts.killed_at) == 2 and all(1 <= step < STEPS for step in facts.killed_at)
    assert facts.digests.keys() >= {"parameters", "optimizer moments", "random numbers", "sample stream", "losses"}
    assert len(set(facts.digests.values())) == len(facts.digests)
    assert facts.torch == torch.__version__
    assert told[-1] == ("killed and resumed", STEPS)
    kept = json.loads((tmp_path / "c" / "config.json").read_text())
    assert (kept["steps"], kept["model"]) == (STEPS, json.loads(json.dumps(kept["model"])))
    assert storage.read_manifest(tmp_path / "c").parents["tokenizer"] == storage.read_manifest(tiny.tokenizer).digest


def test_two_processes_that_are_killed_together_are_certified_together(tiny, tmp_path: Path) -> None:
    facts = tried(tiny, tmp_path / "c", processes=2)
    assert facts.passed and facts.processes == 2
    assert len(facts.killed_at) == 2


def lonely(**arguments: Any) -> None:
    """Refuses to be one of several."""
    raise ConfigError(f"Process {os.environ['RANK']} of {os.environ['WORLD_SIZE']} will not.")


def test_a_process_that_fails_beside_others_is_heard(tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"The short run failed: Process [01] of 2 will not\."):
        tried(tiny, tmp_path / "c", lonely, processes=2)


def forgetful_moments(**arguments: Any) -> None:
    """Resumes without the optimizer's memory of the squares."""
    whole = Run.restore

    def restore(self: Run, path: Path) -> None:
        whole(self, path)
        for state in self.optimizer.state.values():
            state["exp_avg_sq"].mul_(1 + 2**-20)

    Run.restore = restore
    train(**arguments)


def one_batch_late(**arguments: Any) -> None:
    """Resumes at the batch after the next."""
    whole = BatchStream.restore

    def restore(self: BatchStream, state: Any) -> None:
        whole(self, state)
        self.next()

    BatchStream.restore = restore
    train(**arguments)


def other_random_numbers(**arguments: Any) -> None:
    """Resumes with another state of the random numbers, which this model never draws."""
    whole = Run.restore

    def restore(self: Run, path: Path) -> None:
        whole(self, path)
        torch.rand(1)

    Run.restore = restore
    train(**arguments)


@pytest.mark.parametrize(
    ("work", "found"),
    [
        (forgetful_moments, {"parameters", "optimizer moments", "losses"}),
        (one_batch_late, {"sample stream", "data position", "parameters"}),
        (other_random_numbers, {"random numbers"}),
    ],
)
def test_a_resumption_that_is_not_exact_is_found(work: Any, found: set[str], tiny, tmp_path: Path) -> None:
    facts = tried(tiny, tmp_path / "c", work)
    assert not facts.passed
    named = {difference.partition(" differ")[0] for difference in facts.differences}
    assert named >= found
    assert ("sample stream" in named) == (work is one_batch_late)
    if "losses" in found:
        (losses,) = (difference for difference in facts.differences if difference.startswith("losses"))
        assert int(losses.split()[-2]) > 8  # nothing differs before there was a checkpoint to resume from


def failing(**arguments: Any) -> None:
    raise ConfigError("Nothing can be trained like this.")


def test_a_run_that_fails_by_itself_ends_the_trial_with_its_own_words(tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"The short run failed: Nothing can be trained like this\."):
        tried(tiny, tmp_path / "c", failing)
    assert not (tmp_path / "c").exists()


def test_more_kills_than_steps_are_refused(tiny, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="48 steps cannot be interrupted 42 times"):
        tried(tiny, tmp_path / "c", kills=42)


@pytest.mark.parametrize("steps", [4, 7, 48, 50, 97])
def test_a_short_run_ends_with_a_checkpoint_and_can_be_guarded(steps: int, tiny) -> None:
    short = shortened(replace(tiny.config, steps=10**6, guard=GuardConfig(skips=1000)), steps)
    assert short.steps == steps
    assert steps % short.checkpoint_every_steps == 0
    assert short.guard.skips < steps


def test_the_codes_version_follows_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(certificate.headrace, "__file__", str(tmp_path / "__init__.py"))
    before = code_version()
    (tmp_path / "a.py").write_text("x = 2\n")
    assert code_version() != before
    assert multiprocessing.active_children() == []
