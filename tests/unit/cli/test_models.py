import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from headrace import registry, storage, tracking
from headrace.artifacts import MODEL_FILE, STATE_FILE, Checkpoint, Rule, Verdict
from headrace.cli.app import run_app
from headrace.config import encode
from headrace.provenance import STAGES, Given, Stage

REASON = "0.87 beats [0.52, 0.6] and [/b] stays."


def promote(folder: Path, step: int) -> str:
    """Promote a checkpoint of a few bytes as a pipeline does; returns its digest."""
    facts = Checkpoint(
        step=step, tokens_seen=1, labels_seen=1, model={}, tokenizer="t", mask="causal", config={}, loss=None
    )
    with storage.writing(folder / f"checkpoint-{step}") as tree:
        (tree.path / MODEL_FILE).write_bytes(bytes([step]))
        stages = [Stage(init=None, shards={name: Given(digest=name * 8)}) for name in ("pile", "chat")]
        (tree.path / STATE_FILE).write_text(json.dumps({STAGES: encode(stages)}))
        digest = tree.commit(facts).digest
    now = registry.champion("gptj")
    rules = (Rule(name="beats base", passed=True, reason=REASON),)
    with storage.writing(folder / f"verdict-{step}") as tree:
        champion = now.checkpoint if now else None
        tree.commit(Verdict(passed=True, candidate=digest, champion=champion, model="gptj", rules=rules))
    places = (str(folder / f"checkpoint-{step}"), str(folder / f"verdict-{step}"))
    registry.promote("gptj", *places, run_id=tracking.nested_run("run", "promote"))
    return digest


def propose(folder: Path, step: int, approver: str) -> None:
    """Leave a checkpoint and a verdict that asks for approval where a pipeline would."""
    promote(folder, step)
    registry.rollback("gptj", "only made here")
    now = registry.champion("gptj")
    facts = storage.read(folder / f"verdict-{step}", Verdict).facts
    with storage.writing(folder / f"asking-{step}") as tree:
        champion = now.checkpoint if now else None
        tree.commit(dataclasses.replace(facts, champion=champion, approvers=(approver,)))


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
    assert shown == {**listed[1], "lineage": shown["lineage"], "evidence": shown["evidence"]}
    assert shown["lineage"]["pipeline_run"] == "run"
    assert shown["evidence"]["rules"][0]["reason"] == REASON
    read = told(capsys, "show", "gptj/2")
    assert f"✓ beats base: {REASON}" in read
    assert f'data         [{{"pile": "{"pile" * 8}"}}, {{"chat": "{"chat" * 8}"}}]' in read

    said = told(capsys, "rollback", "gptj", "--reason", "wrong [/tmp/x] answers")
    assert said == "gptj version 2 was taken back; version 1 is champion again.\n"
    assert "wrong [/tmp/x] answers" in told(capsys, "list")
    assert "wrong [/tmp/x] answers" in told(capsys, "show", "gptj/2")
    assert "no version is champion now" in told(capsys, "rollback", "gptj")


def refused(capsys: pytest.CaptureFixture[str], code: int, *arguments: str) -> str:
    assert run_app(["models", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    return captured.err


def test_a_version_is_promoted_approved_rejected_and_audited_from_the_command_line(
    mlflow_store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("HEADRACE_USER", "ada")
    promote(mlflow_store, 1)
    propose(mlflow_store, 2, "grace")
    places = ("--checkpoint", str(mlflow_store / "checkpoint-2"), "--verdict", str(mlflow_store / "asking-2"))
    assert "Give both --checkpoint and --verdict" in refused(capsys, 2, "promote", "gptj", *places[:2])
    assert "say why it may come back" in refused(capsys, 2, "promote", "gptj", *places)
    said = told(capsys, "promote", "gptj", *places, "--reason", "it was fine")
    assert said == "gptj version 3 is challenger; it waits for `headrace models approve`.\n"
    assert "ada (HEADRACE_USER) is no approver" in refused(capsys, 2, "approve", "gptj", "--reason", "yes")
    monkeypatch.setenv("HEADRACE_USER", "grace")
    assert "needs its reason" in refused(capsys, 2, "approve", "gptj/3")
    assert told(capsys, "reject", "gptj/3", "--reason", "rude") == ("gptj version 3 is rejected; the champion stays.\n")
    assert "rude" in told(capsys, "list")
    told(capsys, "promote", "gptj/3", "--reason", "polite by now")
    assert told(capsys, "approve", "gptj", "--reason", "[read] it") == "gptj version 3 is approved and champion.\n"

    trail = json.loads(told(capsys, "audit", "gptj", "--json"))
    assert [entry["action"] for entry in trail["entries"]][3:] == ["propose", "reject", "propose", "approve"]
    assert trail["head"].startswith("7 ") and trail["differences"] == []
    shown = told(capsys, "audit", "gptj")
    assert "[read] it" in shown and "grace (HEADRACE_USER)" in shown
    tracking.client().set_registered_model_alias("gptj", "champion", "1")
    assert run_app(["models", "audit", "gptj"]) == 1
    assert "Alias champion names version 1, and the trail has it name version 3." in capsys.readouterr().out
    assert "The chain holds." in told(capsys, "audit", "gptj", "--settle")
