"""Each rule blocks a candidate on its own; what passes has evidence for every one."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from headrace import registry, storage
from headrace.artifacts import EvalReport, Rule, Verdict
from headrace.errors import IntegrityError
from headrace.evaluation.gate import decide, judge, stands, write_verdict
from headrace.evaluation.policy import Beat, GateConfig, NonInferiority
from headrace.evaluation.scores import read_examples, write_examples
from headrace.registry.reports import report_on_candidate
from headrace.storage import Stored

Reports = Callable[..., Stored[EvalReport]]
GOOD = [1.0] * 90 + [0.0] * 10
MIDDLING = [1.0] * 70 + [0.0] * 30
POOR = [1.0] * 20 + [0.0] * 80
POLICY = GateConfig(metric="facts/exact_match", floor=0.8)


def blocking(verdict: Verdict) -> list[str]:
    """Rules that did not pass; the verdict must agree with them."""
    failed = [rule.name for rule in verdict.rules if not rule.passed]
    assert verdict.passed == (not failed)
    assert all(rule.reason for rule in verdict.rules)
    return failed


def test_a_candidate_that_beats_both_passes_with_its_numbers(report: Reports) -> None:
    candidate, base, champion = report("new", facts=GOOD), report("old", facts=POOR), report("top", facts=MIDDLING)
    verdict = decide(candidate, {"base": base, "champion": champion}, POLICY, "gptj-demo", checkpoint="new")
    assert blocking(verdict) == []
    assert (verdict.candidate, verdict.champion, verdict.model) == ("new", "top", "gptj-demo")
    assert [rule.name for rule in verdict.rules] == ["evidence", "floor", "beats base", "beats champion"]
    numbers = verdict.rules[3].numbers
    assert numbers["difference"] == pytest.approx(0.2)
    assert 0 < numbers["p_value"] < 0.05 == numbers["alpha"]
    assert numbers["low"] < 0.2 < numbers["high"]


def test_the_first_champion_need_only_beat_the_base(report: Reports) -> None:
    for references in ({"base": report("old", facts=POOR), "champion": None}, {"base": report("old", facts=POOR)}):
        verdict = decide(report("new", facts=GOOD), references, POLICY, "m")
        assert blocking(verdict) == []
        assert verdict.champion is None
        assert verdict.rules[-1].reason == "There is no champion yet."


def test_the_floor_alone_blocks_and_the_value_itself_passes(report: Reports) -> None:
    references = {"base": report("old", facts=POOR), "champion": None}
    assert blocking(decide(report("low", facts=MIDDLING), references, POLICY, "m")) == ["floor"]
    exact = GateConfig(metric="facts/exact_match", floor=0.7)
    assert blocking(decide(report("low", facts=MIDDLING), references, exact, "m")) == []


@pytest.mark.parametrize("role", ["base", "champion"])
@pytest.mark.parametrize(
    "theirs", [GOOD, [1.0] * 95 + [0.0] * 5, [1.0] * 89 + [0.0] * 11], ids=["tie", "loss", "chance"]
)
def test_a_reference_that_is_not_beaten_alone_blocks(report: Reports, role: str, theirs: list[float]) -> None:
    references = {"base": report("old", facts=POOR), "champion": report("top", facts=MIDDLING)}
    references[role] = report("other", facts=theirs)
    assert blocking(decide(report("new", facts=GOOD), references, POLICY, "m")) == [f"beats {role}"]


def test_alpha_decides_what_chance_explains(report: Reports) -> None:
    ours, theirs = [1.0] * 8 + [0.0] * 32, [1.0] * 5 + [0.0] * 35
    references = {"base": report("old", facts=theirs)}
    strict, lenient = (GateConfig(metric="facts/exact_match", alpha=alpha) for alpha in (0.01, 0.2))
    assert blocking(decide(report("new", facts=ours), references, strict, "m")) == ["beats base"]
    assert blocking(decide(report("new", facts=ours), references, lenient, "m")) == []


def test_a_reference_in_its_best_setting_alone_blocks(report: Reports) -> None:
    beats = (Beat(reference="base"), Beat(reference="base", metric="shots/exact_match"))
    policy = GateConfig(metric="facts/exact_match", beats=beats)
    base = report("old", facts=POOR, shots=GOOD)
    verdict = decide(report("new", facts=GOOD, shots=POOR), {"base": base}, policy, "m")
    assert blocking(verdict) == ["beats base on shots/exact_match"]


def test_too_few_examples_alone_block(report: Reports) -> None:
    verdict = decide(report("new", facts=[1.0] * 29), {"base": report("old", facts=[0.0] * 29)}, POLICY, "m")
    assert blocking(verdict) == ["evidence"]


def test_a_report_of_another_checkpoint_alone_blocks(report: Reports) -> None:
    references = {"base": report("old", facts=POOR)}
    verdict = decide(report("new", facts=GOOD), references, POLICY, "m", checkpoint="another")
    assert blocking(verdict) == ["evidence"]
    assert "new" in verdict.rules[0].reason and "another" in verdict.rules[0].reason


def test_the_candidate_itself_is_not_beaten_by_a_second_look(report: Reports) -> None:
    """A report of the same checkpoint, whatever it says, is no champion to be better than."""
    again = report("new", data="data", facts=GOOD)
    verdict = decide(again, {"base": report("old", facts=POOR), "champion": again}, POLICY, "m")
    assert blocking(verdict) == ["beats champion"]
    assert "this very checkpoint" in verdict.rules[-1].reason


def test_a_report_of_other_data_alone_blocks(report: Reports) -> None:
    references = {"base": report("old", facts=POOR), "champion": report("top", data="other", facts=MIDDLING)}
    verdict = decide(report("new", facts=GOOD), references, POLICY, "m")
    assert blocking(verdict) == ["beats champion"]
    assert "different data" in verdict.rules[-1].reason


def test_a_base_that_was_not_measured_alone_blocks(report: Reports) -> None:
    unmeasured = report("old", other=POOR)
    for references in ({"base": None}, {}, {"base": unmeasured}):
        assert blocking(decide(report("new", facts=GOOD), references, POLICY, "m")) == ["beats base"]


def test_a_metric_that_was_not_measured_passes_nothing(report: Reports) -> None:
    verdict = decide(report("new", other=GOOD), {"base": report("old", facts=POOR)}, POLICY, "m")
    assert blocking(verdict) == ["evidence", "floor", "beats base"]


@pytest.mark.parametrize(("margin", "failed"), [(0.5, []), (0.1, ["other/exact_match not worse than base"])])
def test_a_loss_beyond_its_margin_alone_blocks(report: Reports, margin: float, failed: list[str]) -> None:
    """The other task falls from 0.9 to 0.7: allowed by half, not by a tenth."""
    bound = NonInferiority(metric="other/exact_match", margin=margin, reference="base")
    policy = GateConfig(metric="facts/exact_match", not_worse=(bound,))
    base = report("old", facts=POOR, other=GOOD)
    verdict = decide(report("new", facts=GOOD, other=MIDDLING), {"base": base}, policy, "m")
    assert blocking(verdict) == failed


def test_a_loss_within_its_margin_that_chance_could_widen_blocks(report: Reports) -> None:
    bound = NonInferiority(metric="other/exact_match", margin=0.06, reference="base")
    policy = GateConfig(metric="facts/exact_match", not_worse=(bound,))
    ours, theirs = [1.0, 0.0] * 50, [0.0, 1.0] * 48 + [1.0, 1.0, 1.0, 0.0]
    verdict = decide(
        report("new", facts=GOOD, other=ours), {"base": report("old", facts=POOR, other=theirs)}, policy, "m"
    )
    assert blocking(verdict) == ["other/exact_match not worse than base"]


@pytest.mark.parametrize("back", [True, False])
def test_a_rule_decided_elsewhere_alone_blocks(report: Reports, monkeypatch: pytest.MonkeyPatch, back: bool) -> None:
    monkeypatch.setattr(
        registry, "was_rolled_back", lambda name, checkpoint: back and (name, checkpoint) == ("m", "new")
    )
    references = {"base": report("old", facts=POOR)}
    verdict = decide(report("new", facts=GOOD), references, POLICY, "m", extra=[stands("m", "new")])
    assert blocking(verdict) == (["not rolled back"] if back else [])


def test_lower_is_better_where_the_metric_says_so(report: Reports, tmp_path: Path) -> None:
    from headrace.artifacts import Metric

    made = report("new", facts=GOOD)
    perplexity = Metric(value=12.0, stderr=0.1, n=100, higher_is_better=False)
    facts = EvalReport(checkpoint="new", mask="prefix", metrics={"facts/exact_match": perplexity}, data="data")
    candidate = Stored(made.path, facts, made.manifest)
    references = {"base": report("old", facts=POOR)}
    for floor, failed in ((12.5, []), (11.5, ["floor"])):
        policy = GateConfig(metric="facts/exact_match", floor=floor)
        assert blocking(decide(candidate, references, policy, "m")) == failed


def test_a_verdict_is_sealed_with_the_reports_it_rests_on(report: Reports, tmp_path: Path) -> None:
    reports = {"candidate": report("new", facts=GOOD), "base": report("old", facts=POOR)}
    incumbent = report("", incumbent=POOR)
    paths = {role: stored.path for role, stored in {**reports, "incumbent": incumbent}.items()}
    extra = [Rule(name="signed off", passed=True, reason="By hand.")]
    manifest = judge(tmp_path / "verdict", paths, "gptj-demo", POLICY, extra=extra)
    verdict = storage.read(tmp_path / "verdict", Verdict)
    assert verdict.manifest == manifest
    assert verdict.facts.passed and verdict.facts.champion is None
    assert verdict.facts.rules[-1] == extra[0]
    expected = {role: stored.digest for role, stored in reports.items()}
    assert manifest.parents == {**expected, "champion": incumbent.digest}
    again = write_verdict(tmp_path / "again", verdict.facts, {**reports, "champion": incumbent})
    assert again.digest == manifest.digest
    carried = report_on_candidate(verdict)
    assert carried is not None and carried.facts == reports["candidate"].facts


def test_an_incumbent_with_a_report_is_the_champion(report: Reports, tmp_path: Path) -> None:
    reports = {
        "candidate": report("new", facts=GOOD),
        "base": report("old", facts=POOR),
        "incumbent": report("top", facts=GOOD),
    }
    manifest = judge(tmp_path / "verdict", {role: r.path for role, r in reports.items()}, "m", POLICY)
    assert manifest.facts.champion == "top"
    assert blocking(manifest.facts) == ["beats champion"]


def test_an_altered_report_is_no_evidence(report: Reports, tmp_path: Path) -> None:
    candidate, base = report("new", facts=POOR), report("old", facts=POOR)
    scores = candidate.path / "scores" / "facts.parquet"
    write_examples(
        scores, [dataclasses.replace(example, scores={"exact_match": 1.0}) for example in read_examples(scores)]
    )
    with pytest.raises(IntegrityError, match=r"facts\.parquet has .* bytes"):
        judge(tmp_path / "verdict", {"candidate": candidate.path, "base": base.path}, "m", POLICY)
    assert not (tmp_path / "verdict").exists()
