"""Versions and their evidence read back from a real registry."""

from pathlib import Path
from typing import Any

from dashboards.console import versions
from headrace import registry, storage, tracking
from headrace.artifacts import Checkpoint, Rule, Verdict


def test_a_store_that_nobody_wrote_to_has_no_models(empty_store: None) -> None:
    assert versions.models() == []


def test_versions_come_newest_first_with_the_verdict_that_allowed_them(store: Any) -> None:
    assert versions.models() == ["demo", "gptjt-6b"]
    second, first = versions.releases("demo")
    assert (second.version.number, second.version.aliases) == (2, ("champion",))
    assert (first.version.number, first.version.aliases) == (1, ("previous",))
    assert second.verdict is not None
    assert second.verdict.champion == first.version.checkpoint == "c1" * 32
    assert second.verdict.rules[0].numbers["p_value"] == 0.0004
    assert (second.promoted_at, second.verdict_digest) == ("2026-01-01T00:08:00Z", "5" * 64)


def test_the_champion_is_what_is_shown_first(store: Any) -> None:
    assert versions.served(versions.releases("demo")) == 0
    assert versions.served(list(reversed(versions.releases("demo")))) == 1
    assert versions.served(versions.releases("gptjt-6b")) == 0


def test_a_version_of_other_origin_has_no_verdict(store: Any) -> None:
    (release,) = versions.releases("gptjt-6b")
    assert release.verdict is None
    assert (release.promoted_at, release.rolled_back, release.replaced) == ("", "", "")


def test_evidence_that_cannot_be_read_is_no_verdict(store: Any) -> None:
    store.client.create_registered_model("broken")
    for evidence in ("{not json", "[]", '{"passed": true}'):
        store.client.create_model_version("broken", "checkpoint", tags={"headrace.evidence": evidence})
    assert [release.verdict for release in versions.releases("broken")] == [None, None, None]


def test_promotion_and_rollback_are_seen(store: Any, tmp_path: Path) -> None:
    promoted = [promote(tmp_path, 1, champion=None)]
    promoted.append(promote(tmp_path, 2, champion=promoted[0]))
    registry.rollback("seen", "it stutters")
    taken, restored = versions.releases("seen")
    assert [taken.version.checkpoint, restored.version.checkpoint] == promoted[::-1]
    assert taken.rolled_back.endswith("it stutters")
    assert (taken.promoted_by, taken.rejected) == (restored.promoted_by, "") != ("", "")
    assert (taken.replaced, restored.version.aliases, restored.rolled_back) == ("1", ("champion",), "")
    assert taken.verdict is not None
    assert taken.verdict.rules == (Rule(name="better", passed=True, reason="2 beats 1.", numbers={"step": 2.0}),)


def promote(folder: Path, step: int, champion: str | None) -> str:
    """Promote a checkpoint of `step` steps as `seen`, as a pipeline does; its digest."""
    facts = Checkpoint(
        step=step, tokens_seen=1, labels_seen=1, model={}, tokenizer="", mask="causal", config={}, loss=0.0
    )
    with storage.writing(folder / f"checkpoint-{step}") as tree:
        digest = tree.commit(facts).digest
    rule = Rule(name="better", passed=True, reason=f"{step} beats {step - 1}.", numbers={"step": float(step)})
    verdict = Verdict(passed=True, candidate=digest, champion=champion, model="seen", rules=(rule,))
    with storage.writing(folder / f"verdict-{step}") as tree:
        tree.commit(verdict)
    run_id = tracking.nested_run("promotion", "promote")
    registry.promote("seen", str(folder / f"checkpoint-{step}"), str(folder / f"verdict-{step}"), run_id=run_id)
    return digest
