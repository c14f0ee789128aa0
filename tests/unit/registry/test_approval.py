"""Approving finishes what the gate began, and nobody but an approver does it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import registry, storage, tracking
from headrace.artifacts import Verdict
from headrace.errors import AuthorityError, ConfigError, HeadraceError, IntegrityError, MismatchError
from headrace.registry import CHALLENGER, CHAMPION, PREVIOUS
from tests.candidates import Candidates


def aliases() -> dict[str, int]:
    return {alias: version.number for version in registry.versions("gptj") for alias in version.aliases}


def in_mlflow() -> dict[str, int]:
    return {alias: int(at) for alias, at in tracking.client().get_registered_model("gptj").aliases.items()}


def message(error: type[HeadraceError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_version_that_needs_approval_waits_as_challenger_until_an_approver_says_yes(candidates: Candidates) -> None:
    first = candidates.promote(1)
    waiting = candidates.propose(2, "ada", "grace")
    assert (waiting.alias, waiting.version) == (CHALLENGER, 2)
    assert aliases() == in_mlflow() == {CHAMPION: 1, CHALLENGER: 2}
    registry.confirm_version(first)
    registry.confirm_version(waiting)
    assert candidates.propose(2, "ada", "grace") == waiting, "proposing it again changes nothing"
    approved = registry.approve("gptj", "read the report")
    assert (approved.number, approved.tags[registry.PROMOTED_BY]) == (2, "ada")
    assert aliases() == in_mlflow() == {PREVIOUS: 1, CHAMPION: 2}
    assert "no longer version 2" in message(IntegrityError, lambda: registry.confirm_version(waiting))
    last = registry.audit("gptj").entries[-1]
    assert (last.action, last.who, last.reason, last.verdict) == ("approve", "ada", "read the report", waiting.verdict)
    rerun = candidates.propose(2, "ada", "grace")
    assert (rerun.alias, rerun.version) == (CHAMPION, 2), "a pipeline run again after the approval goes on"


def test_nobody_but_an_approver_decides(candidates: Candidates, monkeypatch: pytest.MonkeyPatch) -> None:
    candidates.propose(1, "grace", "linus")
    for decide in (registry.approve, registry.reject):
        told = message(AuthorityError, lambda decide=decide: decide("gptj", "I like it"))
        assert told == ("ada (HEADRACE_USER) is no approver of gptj: its policy names grace, linus. Ask one of them.")
    assert aliases() == in_mlflow() == {CHALLENGER: 1}
    assert len(registry.audit("gptj").entries) == 1
    monkeypatch.setenv("HEADRACE_USER", "linus")
    registry.approve("gptj", "I like it")
    assert aliases() == in_mlflow() == {CHAMPION: 1}


def test_mlflows_own_user_goes_before_what_anybody_may_claim(
    candidates: Candidates, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates.propose(1, "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "mallory")
    assert "mallory (MLFLOW_TRACKING_USERNAME) is no approver" in message(
        AuthorityError, lambda: registry.approve("gptj", "me")
    )
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.delenv("HEADRACE_USER")
    registry.approve("gptj", "me")
    assert registry.audit("gptj").entries[-1].known_by == "MLFLOW_TRACKING_USERNAME"


def test_a_decision_needs_its_reason_and_something_to_decide(candidates: Candidates) -> None:
    candidates.promote(1)
    assert "needs its reason" in message(ConfigError, lambda: registry.approve("gptj", " "))
    assert "no alias 'challenger'" in message(ConfigError, lambda: registry.approve("gptj", "yes"))
    assert "No model 'gptk'" in message(ConfigError, lambda: registry.reject("gptk", "no"))
    told = message(MismatchError, lambda: registry.approve("gptj/1", "yes"))
    assert told == "gptj version 1 does not wait for approval; the challenger is none."
    assert [entry.action for entry in registry.audit("gptj").entries] == ["promote"]


def test_what_was_looked_at_is_what_is_approved(candidates: Candidates) -> None:
    candidates.propose(1, "ada")
    candidates.propose(2, "ada")
    assert aliases() == {CHALLENGER: 2}
    told = message(MismatchError, lambda: registry.approve("gptj/1", "it was fine"))
    assert told == "gptj version 1 does not wait for approval; the challenger is version 2."
    registry.approve("gptj/2", "so is this")
    again = message(MismatchError, lambda: registry.approve("gptj/2", "twice"))
    assert "the challenger is none. It was decided: approve by ada at 2" in again
    assert aliases() == in_mlflow() == {CHAMPION: 2}


def test_a_champion_that_came_in_between_stops_the_approval_and_rejecting_clears_it(candidates: Candidates) -> None:
    candidates.promote(1)
    candidates.propose(2, "ada")
    candidates.promote(3)
    assert aliases() == {CHALLENGER: 2, PREVIOUS: 1, CHAMPION: 3}
    told = message(MismatchError, lambda: registry.approve("gptj", "late"))
    assert "version 3, promoted by ada at" in told and told.endswith("Run the gate again.")
    assert aliases() == in_mlflow() == {CHALLENGER: 2, PREVIOUS: 1, CHAMPION: 3}
    registry.reject("gptj", "another came first")
    assert aliases() == in_mlflow() == {PREVIOUS: 1, CHAMPION: 3}


def test_what_was_rejected_comes_back_on_new_evidence_or_for_a_persons_reason(candidates: Candidates) -> None:
    verdict = candidates.verdict(1, approvers=("ada",))
    candidates.promote(1, verdict)
    rejected = registry.reject("gptj", "rude answers")
    assert rejected.tags[registry.REJECTED].endswith("Z by ada: rude answers")
    assert aliases() == in_mlflow() == {}
    told = message(MismatchError, lambda: candidates.promote(1, verdict))
    assert "was rejected (2" in told and "rude answers)" in told
    candidates.promote(1, verdict, reason="they were jokes")
    assert aliases() == {CHALLENGER: 1}
    registry.reject("gptj", "not funny")
    other = candidates.verdict(1, approvers=("ada",), rules=())
    assert storage.read(other, Verdict).digest != storage.read(verdict, Verdict).digest
    assert candidates.promote(1, other).alias == CHALLENGER


def test_what_was_rolled_back_by_mistake_comes_back_for_a_persons_reason(candidates: Candidates) -> None:
    candidates.promote(1)
    verdict = candidates.verdict(2)
    candidates.promote(2, verdict)
    registry.rollback("gptj", "oops")
    assert "by ada: oops). Promote another, or say why" in message(
        MismatchError, lambda: candidates.promote(2, verdict)
    )
    back = candidates.promote(2, verdict, reason="wrong terminal")
    assert (back.version, aliases()) == (2, {PREVIOUS: 1, CHAMPION: 2})
    assert not registry.was_rolled_back("gptj", back.checkpoint)
    assert in_mlflow() == aliases()
    tags = tracking.client().get_model_version("gptj", "2").tags
    assert tags[registry.ROLLED_BACK] == ""


def test_a_verdict_that_lies_beside_a_version_is_the_one_it_was_registered_with(
    candidates: Candidates, tmp_path: Path
) -> None:
    verdict = candidates.verdict(1)
    candidates.promote(1, verdict)
    place = registry.fetch_verdict(registry.resolve("gptj/1"), tmp_path)
    assert storage.read(place, Verdict).digest == storage.read(verdict, Verdict).digest
    tracking.client().log_artifacts(registry.resolve("gptj/1").run_id, str(candidates.verdict(2)), "verdict")
    assert "another verdict" in message(
        IntegrityError, lambda: registry.fetch_verdict(registry.resolve("gptj/1"), tmp_path)
    )
