"""Every mistake is one line that names the value, the rule and the next move, with an exit code and no traceback."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace import tracking
from headrace.cli.app import run_app
from tests.project import enter, make_project
from tests.serving_checkpoint import write_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_project(tmp_path_factory.mktemp("bad") / "project")


@pytest.fixture
def project(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    enter(folder, monkeypatch)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path / "home"))
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "HEADRACE_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    tracking.client.cache_clear()
    yield folder
    tracking.client.cache_clear()
    for name in [name for name in sys.modules if name.partition(".")[0] == "pipelines"]:
        del sys.modules[name]


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit code and the one line said on standard error."""
    code = run_app(list(arguments))
    said = capsys.readouterr().err.strip()
    assert "Traceback" not in said
    assert said.startswith("error: ")
    assert "\n" not in said, said
    return code, said.removeprefix("error: ")


@pytest.mark.usefixtures("project")
class TestEvidence:
    """A policy that a chain can never satisfy is refused before the chain runs."""

    def refused(self, capsys: pytest.CaptureFixture[str], chain: str, *assignments: str) -> str:
        words = [word for one in assignments for word in ("--set", one)]
        code, said = refusal(capsys, "run", chain, "--recipe", "tiny", *words)
        assert code == 2
        return said

    def test_a_chain_without_data_names_the_one_that_reports_on_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.refused(capsys, "release", "base=b", "candidate=c", "policy.min_items_checked=0.9") == (
            "release makes no evidence for policy.min_items_checked. Run end-to-end, or name reports that lie "
            "elsewhere in policy.data_reports."
        )

    def test_reports_and_certificates_that_lie_nowhere(self, capsys: pytest.CaptureFixture[str]) -> None:
        for key, value in (("data_reports", '["nowhere"]'), ("certificate", "nowhere")):
            said = self.refused(capsys, "end_to_end", f"policy.{key}={value}")
            assert said == f"policy.{key} names nowhere, and no artifact lies there. Give the path of one."

    def test_a_filter_that_looks_for_nothing(self, capsys: pytest.CaptureFixture[str]) -> None:
        said = self.refused(capsys, "end_to_end", "policy.min_items_checked=0.9", "filtering.contamination=off")
        assert "filtering.contamination is 'off'" in said

    def test_scores_of_what_is_trained_on(self, capsys: pytest.CaptureFixture[str]) -> None:
        said = self.refused(
            capsys, "end_to_end", "policy.min_items_checked=0.9", "evaluation.tasks.colours.data=instructions"
        )
        assert said == (
            "policy.min_items_checked=0.9 asks for data without evaluation items, and 'colours' is measured on "
            "'instructions', which is trained on. Measure it on held-out data."
        )


@pytest.mark.usefixtures("project")
class TestNames:
    def test_an_unknown_recipe_names_the_nearest(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = refusal(capsys, "run", "end_to_end", "--recipe", "tiney")
        assert (code, said) == (2, "There is no recipe 'tiney'. Did you mean 'tiny'?")

    def test_an_unknown_pipeline_names_the_nearest(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = refusal(capsys, "run", "end-to-and", "--recipe", "tiny")
        assert (code, said) == (2, "There is no pipeline 'end-to-and'. Did you mean 'end_to_end'?")

    def test_an_unknown_key_names_the_nearest(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = refusal(capsys, "run", "end_to_end", "--recipe", "tiny", "--set", "pretraining.stepz=3")
        assert code == 2
        assert "no key 'stepz'" in said
        assert "'steps'" in said

    def test_a_value_of_another_type_says_which(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = refusal(capsys, "run", "end_to_end", "--recipe", "tiny", "--set", "pretraining.steps=many")
        assert code == 2
        assert "pretraining.steps='many'" in said

    def test_an_unknown_model_or_alias(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert refusal(capsys, "models", "show", "nobody@champion")[0] == 2
        assert refusal(capsys, "serve", "nobody@champion")[0] == 2
        code, said = refusal(capsys, "models", "rollback", "nobody")
        assert code == 2
        assert "'nobody'" in said

    def test_a_context_longer_than_the_model_is_refused_before_anything_runs(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        code, said = refusal(
            capsys, "run", "end_to_end", "--recipe", "tiny", "--set", "pretraining.data.context_tokens=512"
        )
        assert code == 2
        assert "512" in said
        assert "96" in said

    def test_a_section_the_recipe_lacks(self, capsys: pytest.CaptureFixture[str]) -> None:
        code, said = refusal(capsys, "run", "finetuning", "--recipe", "tiny")
        assert code == 2
        assert "--set base=VALUE" in said


def test_a_directory_without_pipelines(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, said = refusal(capsys, "run", "end_to_end")
    assert code == 2
    assert "no pipelines/ directory" in said


def test_an_unreachable_mlflow_is_a_failure_and_nothing_has_run(
    capsys: pytest.CaptureFixture[str], project: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    code, said = refusal(capsys, "run", "end_to_end", "--recipe", "tiny")
    assert code == 1
    assert "127.0.0.1:9" in said
    assert not (tmp_path / "home" / "artifacts").exists()


def test_a_busy_port_is_named_before_anything_slow_starts(
    capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path
) -> None:
    write_checkpoint(tmp_path / "checkpoint", "prefix")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for command in (["ui"], ["dashboard"], ["serve", str(tmp_path / "checkpoint")]):
            code, said = refusal(capsys, *command, "--port", port)
            assert code == 1
            assert port in said


CORPORA = {
    "missing": (None, "nowhere.jsonl"),
    "empty": (b"", "empty.jsonl"),
    "not UTF-8": (b'{"text": "caf\xe9"}\n', "latin.jsonl"),
    "truncated": (b'{"text": "one"}\n{"text": "tw', "cut.jsonl"),
}


@pytest.mark.parametrize("name", CORPORA)
def test_a_corpus_that_cannot_be_read_fails_its_stage_in_one_line(
    name: str, capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path
) -> None:
    content, file = CORPORA[name]
    place = tmp_path / file
    if content is not None:
        place.write_bytes(content)
    told = tmp_path / "told.json"
    code, said = refusal(
        capsys, "run", "pretraining", "--recipe", "tiny", "--set", f"corpus.files.text={place}", "--json", str(told)
    )
    assert code == 2
    assert file in said
    states = {stage["name"]: stage["state"] for stage in json.loads(told.read_text())["stages"]}
    assert states["pretrain"] == "skipped"
    assert states["close"] == "done"


def test_a_task_that_cannot_be_asked_stops_the_chain_before_anything_is_computed(
    capsys: pytest.CaptureFixture[str], project: Path, tmp_path: Path
) -> None:
    (tmp_path / "asked.jsonl").write_text('{"prompt": "Which colour?"}\n')
    told = ["--set", f"corpus.files.heldout={tmp_path}/asked.jsonl", "--json", str(tmp_path / "told.json")]
    code, said = refusal(capsys, "run", "pretraining", "--recipe", "tiny", *told)
    assert code == 2
    assert f"gather: {tmp_path}/asked.jsonl:1 has no 'target'. Add the field, or give data of this task." in said
    states = {stage["name"]: stage["state"] for stage in json.loads((tmp_path / "told.json").read_text())["stages"]}
    assert {name for name, state in states.items() if state == "done"} == {"close"}


def test_debug_shows_the_traceback(project: Path) -> None:
    command = [sys.executable, "-m", "headrace.cli", "run", "nothing", "--debug"]
    done = subprocess.run(command, cwd=project, env=dict(os.environ), capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" in done.stderr
    assert "There is no pipeline 'nothing'" in done.stderr


def test_help_answers_without_importing_anything_heavy(project: Path) -> None:
    script = (
        "import sys\nfrom headrace.cli.app import run_app\nrun_app(['--help'])\n"
        "print(sorted({'torch', 'kfp', 'mlflow', 'fastapi', 'streamlit'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr.strip() == "[]"
    assert "rollback" not in done.stdout
    assert "models" in done.stdout
