"""`headrace compare` on reports that lie on disk."""

import json
from pathlib import Path

import pytest

from headrace import storage
from headrace.artifacts import EvalReport, Metric
from headrace.cli.app import run_app
from headrace.evaluation import compare
from headrace.evaluation.scores import Example, score_file, write_examples


def seal(folder: Path, checkpoint: str, scores: list[float], task: str = "facts", data: str = "d") -> str:
    with storage.writing(folder) as tree:
        examples = [Example(id=str(n), scores={"acc": score}) for n, score in enumerate(scores)]
        write_examples(score_file(tree.path, task), examples)
        metric = Metric(value=sum(scores) / len(scores), stderr=0.1, n=len(scores))
        tree.commit(EvalReport(checkpoint=checkpoint, mask="causal", metrics={f"{task}/acc": metric}, data=data))
    return str(folder)


def test_json_has_what_the_library_computes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = seal(tmp_path / "a", "new", [1, 1, 0, 1] * 9), seal(tmp_path / "b", "old", [0, 1, 0, 1] * 9)
    assert run_app(["compare", a, b, "--json", "--confidence", "0.9"]) == 0
    told = json.loads(capsys.readouterr().out)
    reports = [storage.read(folder, EvalReport) for folder in (a, b)]
    expected = compare.compare(*reports, "facts/acc", confidence=0.9)
    found = told["metrics"]["facts/acc"]
    assert (found["difference"], found["low"], found["high"]) == (expected.difference, expected.low, expected.high)
    assert (found["p_value"], found["n"], found["a"]["value"], found["b"]["value"]) == (expected.p_value, 36, 0.75, 0.5)
    assert (told["a"]["checkpoint"], told["b"]["checkpoint"]) == ("new", "old")


def test_the_table_says_which_report_is_better(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = seal(tmp_path / "a", "new", [1, 1, 0, 1] * 9), seal(tmp_path / "b", "old", [0, 1, 0, 1] * 9)
    assert run_app(["compare", a, b]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("facts/acc"))
    assert "0.75 ± 0.1" in line and "0.5 ± 0.1" in line and "+0.2500" in line and line.endswith("36")


def test_in_a_narrow_window_no_number_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    task = "a_task_of_a_long_name"
    a = seal(tmp_path / "a", "new", [1, 1, 0, 1] * 90, task=task)
    b = seal(tmp_path / "b", "old", [0, 1, 0, 1] * 90, task=task)
    assert run_app(["compare", a, b, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["metrics"][f"{task}/acc"]
    assert run_app(["compare", a, b]) == 0
    shown = capsys.readouterr().out
    assert f"{found['low']:+.4f} to {found['high']:+.4f}" in shown and "…" not in shown
    assert any(line.split()[-1] == "360" for line in shown.splitlines() if line.strip())


@pytest.mark.parametrize(
    ("other", "arguments", "code", "words"),
    [
        ({"data": "e"}, [], 2, "of different data"),
        ({"task": "more"}, [], 2, "share no metric"),
        ({}, ["--metric", "fact/acc"], 2, "Did you mean 'facts/acc'"),
        ({"scores": [1.0, 0.0, 1.0]}, [], 2, "not of the same examples"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], other: dict, arguments: list[str], code: int, words: str
) -> None:
    a = seal(tmp_path / "a", "new", [1.0, 0.0])
    b = seal(tmp_path / "b", **{"checkpoint": "old", "scores": [1.0, 1.0], **other})
    assert run_app(["compare", a, b, *arguments]) == code
    assert words in " ".join(capsys.readouterr().err.split())


def test_a_directory_that_is_no_report_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = seal(tmp_path / "a", "new", [1.0, 0.0])
    assert run_app(["compare", a, str(tmp_path / "none")]) != 0
    assert "none" in capsys.readouterr().err
