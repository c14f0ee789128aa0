"""`headrace verify resume` on the small project's recipe."""

import json
from pathlib import Path

import pytest

from headrace import storage
from headrace.artifacts import ResumeCertificate
from headrace.cli.app import run_app
from headrace.training import loop, rehearsal
from headrace.training.run import Run
from tests.project import enter, make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("verified") / "project")


@pytest.fixture(autouse=True)
def inside(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(project, monkeypatch)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def verify(*arguments: str) -> int:
    return run_app(["verify", "resume", "--recipe", "tiny", "--steps", "24", "--kills", "2", *arguments])


@pytest.mark.parametrize(("stage", "sources"), [("pretraining", {"text"}), ("instruct", {"instructions"})])
def test_a_recipes_stage_is_killed_resumed_compared_and_certified(
    stage: str, sources: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify("--stage", stage, "--set", f"{stage}.seed=7", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["passed"], told["stage"], told["steps"], len(told["killed_at"])) == (True, stage, 24, 2)
    stored = storage.read(tmp_path / "certificates" / f"tiny-{stage}", ResumeCertificate)
    assert (str(stored.path), stored.digest) == (told["uri"], told["digest"])
    assert json.loads((stored.path / "config.json").read_text())["seed"] == 7
    assert stored.manifest.parents.keys() == {"tokenizer", *(f"shards_{name}" for name in sources)}


def broken(**arguments: object) -> None:
    """Trains, and resumes with other weights."""
    whole = Run.restore

    def restore(self: Run, path: Path) -> None:
        whole(self, path)
        self.model.head.bias.data.add_(1e-6)

    Run.restore = restore  # type: ignore[method-assign]
    loop.train(**arguments)  # type: ignore[arg-type]


def test_what_is_compared_and_what_differs_are_shown_and_the_exit_code_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = rehearsal.Rehearsal.__init__
    monkeypatch.setattr(
        rehearsal.Rehearsal, "__init__", lambda self, folder, given, _, processes: start(self, folder, given, broken)
    )
    assert verify("--output", str(tmp_path / "c")) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("pretraining of tiny: 24 steps, killed after ")
    marks = {line.rsplit(maxsplit=2)[0].strip(): line[-1] for line in lines if line[-1] in "✓✗"}
    assert (marks["parameters"], marks["sample stream"], marks["data position"]) == ("✗", "✓", "✓")
    assert any(line.startswith("losses differ from step ") for line in lines)
    assert lines[-2].endswith("not the same run.")
    assert not storage.read(tmp_path / "c", ResumeCertificate).facts.passed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--stage", "evaluation"], "has no stage 'evaluation' to run. Known: pretraining, ul2, instruct."),
        (["--set", "pretraining=null"], "has no stage 'pretraining' to run. Known: ul2, instruct."),
        (["--set", "tokenizer=null"], "neither a tokenizer nor a base model"),
    ],
)
def test_what_cannot_be_tried_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(*arguments) == 2
    assert said in capsys.readouterr().err
