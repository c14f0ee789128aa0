import json
from pathlib import Path
from typing import Any

import pytest

from headrace import registry, storage, tracking
from headrace.artifacts import MODEL_FILE, Checkpoint, Rule, Verdict
from headrace.cli.app import run_app

REASON = "0.87 beats [0.52, 0.6] and [/b] stays."


def promote(folder: Path, step: int) -> str:
    """Promote a checkpoint of a few bytes as a pipeline does; returns its digest."""
    facts = Checkpoint(
        step=step, tokens_seen=1, labels_seen=1, model={}, tokenizer="t", mask="causal", config={}, loss=None
    )
    with storage.writing(folder / f"checkpoint-{step}") as tree:
        (tree.path / MODEL_FILE).write_bytes(bytes([step]))
        digest = tree.commit(facts).digest
    now = registry.champion("gptj")
    rules = (Rule(name="beats base", passed=True, reason=REASON),)
    with storage.writing(folder / f"verdict-{step}") as tree:
        champion = now.checkpoint if now else None
        tree.commit(Verdict(passed=True, candidate=digest, champion=champion, model="gptj", rules=rules))
    places = (str(folder / f"checkpoint-{step}"), str(folder / f"verdict-{step}"))
    registry.promote("gptj", *places, run_id=tracking.nested_run("run", "promote"))
    return digest


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run_app(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_versions_are_listed_shown_with_their_evidence_and_taken_back(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert "No model is registered yet" in told(capsys, "list")
    digests = [promote(mlflow_store, step) for step in (1, 2)]

    listed: list[dict[str, Any]] = json.loads(told(capsys, "list", "--json"))
    assert [(row["version"], row["aliases"], row["checkpoint"]) for row in listed] == [
        (1, ["previous"], digests[0]),
        (2, ["champion"], digests[1]),
    ]
    shown = json.loads(told(capsys, "show", "gptj@champion", "--json"))
    assert shown == {**listed[1], "evidence": shown["evidence"]}
    assert shown["evidence"]["rules"][0]["reason"] == REASON
    assert f"✓ beats base: {REASON}" in told(capsys, "show", "gptj/2")

    said = told(capsys, "rollback", "gptj", "--reason", "wrong [/tmp/x] answers")
    assert said == "gptj version 2 was taken back; version 1 is champion again.\n"
    assert "wrong [/tmp/x] answers" in told(capsys, "list")
    assert "wrong [/tmp/x] answers" in told(capsys, "show", "gptj/2")
    assert "no version is champion now" in told(capsys, "rollback", "gptj")
