import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import registry, storage, tracking
from headrace.artifacts import MODEL_FILE, STATE_FILE, Checkpoint, ModelVersion, Rule, Verdict
from headrace.errors import ConfigError, HeadraceError, IntegrityError, MismatchError
from headrace.registry import CHAMPION, PREVIOUS, Version
from tests.candidates import RULES, Candidates


def message(error: type[HeadraceError], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def aliases(name: str = "gptj") -> dict[str, int]:
    return {alias: version.number for version in registry.versions(name) for alias in version.aliases}


def champion() -> Version:
    found = registry.champion("gptj")
    assert found is not None
    return found


def state() -> list[tuple[int, dict[str, str], tuple[str, ...]]]:
    return [(version.number, version.tags, version.aliases) for version in registry.versions("gptj")]


def test_a_promoted_version_is_the_champion_and_carries_its_evidence(candidates: Candidates) -> None:
    verdict = candidates.verdict(1)
    promoted = candidates.promote(1, verdict)
    stored = storage.read(verdict, Verdict)
    assert promoted == ModelVersion(
        name="gptj", version=1, alias=CHAMPION, checkpoint=stored.facts.candidate, verdict=stored.digest
    )
    version = registry.resolve("gptj@champion")
    assert version == registry.resolve("gptj/1") == registry.resolve("models:/gptj/1") == champion()
    assert (version.checkpoint, version.uri) == (promoted.checkpoint, "models:/gptj/1")
    assert json.loads(version.tags[registry.EVIDENCE])["rules"][0]["numbers"] == {"p": 0.001}
    assert version.tags[registry.VERDICT] == stored.digest
    assert version.tags[registry.PROMOTED_AT].endswith("Z")
    assert (registry.names(), aliases()) == (["gptj"], {CHAMPION: 1})
    kept = tracking.client().list_artifacts(version.run_id, "verdict")
    assert [file.path for file in kept] == ["verdict/manifest.json", "verdict/reports"]


def test_promotion_needs_a_passing_verdict_about_this_checkpoint_and_model(candidates: Candidates) -> None:
    failed = Rule(name="beats base", passed=False, reason="0.4 does not beat 0.5.")
    other = candidates.checkpoint(2)
    for changes, told in (
        ({"passed": False, "rules": (*RULES, failed)}, "did not pass (beats base). Nothing was promoted."),
        ({"candidate": other}, f"is about gptj {other[:12]}, not gptj"),
        ({"model": "gptjt"}, "is about gptjt "),
    ):
        verdict = candidates.verdict(1, **changes)
        assert told in message(MismatchError, lambda verdict=verdict: candidates.promote(1, verdict))
    assert "kind" not in registry.names()
    assert registry.names() == []
    assert "is of kind verdict" in message(
        MismatchError, lambda: registry.promote("gptj", str(verdict), str(verdict), run_id="x")
    )


def test_an_altered_checkpoint_is_never_promoted(candidates: Candidates) -> None:
    verdict = candidates.verdict(1)
    (candidates.path(1) / MODEL_FILE).write_bytes(b"\x02" * 1000)
    assert MODEL_FILE in message(IntegrityError, lambda: candidates.promote(1, verdict))
    assert registry.names() == []


@pytest.mark.parametrize("name", ["", "a/b", "a:b", "a@b"])
def test_a_name_that_could_not_be_asked_for_is_refused(candidates: Candidates, name: str) -> None:
    verdict = candidates.verdict(1, model=name, champion=None) if name else candidates.verdict(1)
    assert repr(name) in message(ConfigError, lambda: candidates.promote(1, verdict, name))


def test_a_verdict_against_another_champion_than_there_is_moves_nothing(candidates: Candidates) -> None:
    """Two pipelines race: the second to finish was never compared with the first."""
    slow, fast = candidates.verdict(1), candidates.verdict(2)
    candidates.promote(2, fast)
    told = message(MismatchError, lambda: candidates.promote(1, slow))
    since = champion().tags[registry.PROMOTED_AT]
    assert told == (
        f"The verdict was given with champion none, and gptj has {champion().checkpoint[:12]}: version 1, promoted by "
        f"ada at {since}. Run the gate again."
    )
    assert aliases() == {CHAMPION: 1}
    candidates.promote(1)
    assert aliases() == {PREVIOUS: 1, CHAMPION: 2}


def test_promoting_twice_changes_nothing(candidates: Candidates) -> None:
    for step in (1, 2):
        verdict = candidates.verdict(step)
        first = candidates.promote(step, verdict)
        before = state()
        assert candidates.promote(step, verdict) == first
        assert candidates.promote(step) == first, "nor does another verdict on the champion itself"
        assert state() == before
    assert aliases() == {PREVIOUS: 1, CHAMPION: 2}


def test_a_checkpoint_that_comes_back_is_another_version_with_its_own_evidence(candidates: Candidates) -> None:
    old = candidates.verdict(1)
    candidates.promote(1, old)
    candidates.promote(2)
    assert "Run the gate again" in message(MismatchError, lambda: candidates.promote(1, old))
    again = candidates.promote(1)
    assert (again.version, aliases()) == (3, {PREVIOUS: 2, CHAMPION: 3})
    assert [version.tags[registry.REPLACED] for version in registry.versions("gptj")] == ["", "1", "2"]
    assert registry.versions("gptj")[0].tags[registry.VERDICT] == storage.read(old, Verdict).digest != again.verdict


def test_the_version_to_beat_is_the_same_before_and_after_promotion(candidates: Candidates) -> None:
    assert registry.incumbent("gptj", "x") is None
    assert registry.champion("gptj") is None
    for step in (1, 2, 3):
        digest = candidates.checkpoint(step)
        before = registry.incumbent("gptj", digest)
        candidates.promote(step)
        after = registry.incumbent("gptj", digest)
        assert (before and before.number) == (after and after.number) == (step - 1 or None)
        registry.confirm_incumbent("gptj", digest, after.checkpoint if after else "")
        assert "to beat is another" in message(
            IntegrityError, lambda digest=digest: registry.confirm_incumbent("gptj", digest, "f" * 64)
        )
    now = registry.incumbent("gptj", "another")
    assert now is not None and now.number == 3


def test_rollback_goes_down_the_chain_to_none(candidates: Candidates) -> None:
    versions = [candidates.promote(step) for step in (1, 2, 3)]
    assert aliases() == {PREVIOUS: 2, CHAMPION: 3}
    taken, restored = registry.rollback("gptj", "it stutters")
    assert (taken.number, restored and restored.number, aliases()) == (3, 2, {PREVIOUS: 1, CHAMPION: 2})
    assert registry.resolve("gptj/3").tags[registry.ROLLED_BACK].endswith("Z by ada: it stutters")
    registry.confirm_version(versions[1])
    assert "no longer version 3" in message(IntegrityError, lambda: registry.confirm_version(versions[2]))
    registry.rollback("gptj")
    assert aliases() == {CHAMPION: 1}
    taken, restored = registry.rollback("gptj")
    assert (taken.number, restored, aliases()) == (1, None, {})
    assert registry.champion("gptj") is None
    assert "has no alias 'champion'" in message(ConfigError, lambda: registry.rollback("gptj"))


def test_a_reference_holds_while_it_names_what_was_fetched_by_it(candidates: Candidates) -> None:
    first, second = (candidates.promote(step).checkpoint for step in (1, 2))
    for reference, named in {"gptj@champion": second, "gptj/1": first, str(candidates.path(2)): second}.items():
        registry.confirm_reference(reference, named)
    candidates.promote(3)
    registry.confirm_reference("gptj@previous", second)
    said = message(IntegrityError, lambda: registry.confirm_reference("gptj@champion", second))
    assert said == "gptj@champion is another checkpoint by now."
    assert "gone" in message(ConfigError, lambda: registry.confirm_reference("gone@champion", second))


def test_what_was_rolled_back_stays_back(candidates: Candidates) -> None:
    candidates.promote(1)
    verdict = candidates.verdict(2)
    candidates.promote(2, verdict)
    facts = storage.read(verdict, Verdict).facts
    registry.confirm_verdict(facts)
    registry.rollback("gptj")
    assert registry.was_rolled_back("gptj", facts.candidate)
    assert not registry.was_rolled_back("gptj", champion().checkpoint)
    assert not registry.was_rolled_back("unknown", facts.candidate)
    assert "rolled back since its verdict" in message(IntegrityError, lambda: registry.confirm_verdict(facts))
    for again in (verdict, candidates.verdict(2)):
        assert "was rolled back" in message(MismatchError, lambda again=again: candidates.promote(2, again))
    assert aliases() == {CHAMPION: 1}
    candidates.promote(3)
    assert aliases() == {PREVIOUS: 1, CHAMPION: 3}


def test_rollback_never_restores_what_was_taken_back(candidates: Candidates) -> None:
    for step in (1, 2, 1):
        candidates.promote(step)
    assert aliases() == {PREVIOUS: 2, CHAMPION: 3}
    registry.rollback("gptj")
    assert aliases() == {CHAMPION: 2}, "version 1 is the checkpoint that was just taken back"
    registry.rollback("gptj")
    assert aliases() == {}


def test_rollback_past_a_deleted_version_serves_nothing_rather_than_failing_halfway(candidates: Candidates) -> None:
    for step in (1, 2):
        candidates.promote(step)
    tracking.client().delete_model_version("gptj", "1")
    taken, restored = registry.rollback("gptj")
    assert (taken.number, restored, aliases()) == (2, None, {})


def test_references_that_mean_nothing_are_answered_with_the_nearest(candidates: Candidates) -> None:
    assert message(ConfigError, lambda: registry.resolve("gptj@champion")).endswith("registered. Known: none.")
    candidates.promote(1)
    for reference, told in (
        ("gptk@champion", "No model 'gptk' is registered. Did you mean 'gptj'?"),
        ("gptj@champoin", "gptj has no alias 'champoin'. Did you mean 'champion'?"),
        ("gptj/7", "gptj has no version 7. Known: 1."),
        ("gptj/x", "'gptj/x' names no version. Write NAME@alias or NAME/NUMBER."),
        ("gptj/²", "'gptj/²' names no version."),
        ("gptj", "'gptj' names no version."),
        ("@champion", "No model '' is registered."),
    ):
        assert message(ConfigError, lambda reference=reference: registry.resolve(reference)).startswith(told)
    assert "No model 'gptk'" in message(ConfigError, lambda: registry.rollback("gptk"))


def test_fetched_files_are_those_that_were_registered(candidates: Candidates) -> None:
    candidates.promote(1)
    shutil.rmtree(candidates.path(1))
    path = registry.fetch(champion())
    assert (path / MODEL_FILE).read_bytes() == b"\x01" * 1000
    assert storage.read(path, Checkpoint).digest == champion().checkpoint
    (path / MODEL_FILE).write_bytes(b"\x02" * 1000)
    assert MODEL_FILE in message(IntegrityError, lambda: registry.fetch(champion()))
    shutil.rmtree(path)
    candidates.checkpoint(2)
    shutil.copytree(candidates.path(2), path)
    told = message(IntegrityError, lambda: registry.fetch(champion()))
    assert "was registered. Promote it again." in told
    shutil.rmtree(path)
    assert "holds no manifest.json" in message(IntegrityError, lambda: registry.fetch(champion()))


def test_a_copy_has_the_digest_and_nothing_that_lay_beside(candidates: Candidates, tmp_path: Path) -> None:
    digest = candidates.checkpoint(1)
    candidates.promote(1)
    (candidates.path(1) / "notes.txt").write_text("mine")
    for n, reference in enumerate((str(candidates.path(1)), "gptj@champion", "gptj/1")):
        assert registry.copy_checkpoint(reference, tmp_path / f"copy-{n}").digest == digest
        assert storage.verify(tmp_path / f"copy-{n}").digest == digest
        assert not (tmp_path / f"copy-{n}" / "notes.txt").exists()
    assert "names no version" in message(ConfigError, lambda: registry.copy_checkpoint("nothing", tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_evidence_too_long_for_a_tag_is_cut_there_and_whole_beside_the_checkpoint(candidates: Candidates) -> None:
    for step, rules, characters in ((1, 200, 900), (2, 3000, 100)):
        long = tuple(
            Rule(name=f"rule {n}", passed=True, reason="x" * characters, numbers={"n": n}) for n in range(rules)
        )
        candidates.promote(step, candidates.verdict(step, rules=long))
        evidence = champion().tags[registry.EVIDENCE]
        assert len(evidence) <= 100_000
        told = json.loads(evidence)
        assert (told["passed"], told["candidate"]) == (True, champion().checkpoint)
        assert told["rules"][0]["name"] == "rule 0" and len(told["rules"]) >= 100
        whole = tracking.client().download_artifacts(champion().run_id, "verdict")
        assert len(storage.read(whole, Verdict).facts.rules) == rules


def test_a_version_on_a_server_is_fetched_once_and_verified(
    mlflow_server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidates = Candidates(tmp_path)
    candidates.promote(1)
    path = registry.fetch(champion())
    assert path == tmp_path / "cache" / champion().checkpoint
    assert {p.relative_to(path).as_posix() for p in path.rglob("*")} == {
        "manifest.json", MODEL_FILE, STATE_FILE, "deep", "deep/empty.json"
    }  # fmt: skip
    stored = (mlflow_server.folder / "artifacts").rglob(MODEL_FILE)
    kept = next(p for p in stored if champion().run_id in p.parts)  # other tests have put theirs there
    kept.write_bytes(b"\x02" * 1000)
    assert registry.fetch(champion()) == path, "the cache answers"
    (path / MODEL_FILE).write_bytes(b"\x03" * 1000)
    told = message(IntegrityError, lambda: registry.fetch(champion()))
    assert told.startswith(f"models:/gptj/1/{MODEL_FILE} is altered")
    assert not path.exists()
    kept.write_bytes(b"\x01" * 1000)
    assert (registry.fetch(champion()) / MODEL_FILE).read_bytes() == b"\x01" * 1000
