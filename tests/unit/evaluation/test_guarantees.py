"""Each condition besides scores blocks a candidate on its own, and so does the lack of its evidence."""

from typing import Any

import pytest

from headrace import storage
from headrace.artifacts import EvalReport, Verdict
from headrace.errors import IntegrityError, MismatchError
from headrace.evaluation.gate import decide
from headrace.evaluation.policy import GateConfig
from tests.evidence import CONFIG, EVERYTHING, NAMES, Case


def test_a_candidate_with_all_the_evidence_passes_and_its_verdict_names_it(case: Case) -> None:
    verdict = case.verdict()
    assert verdict.passed and verdict.approvers == ("ada",)
    assert [rule.name for rule in verdict.rules][-3:] == NAMES
    latency, data, resuming = verdict.rules[-3:]
    assert latency.numbers == {"latency_ms": 50.0, "budget_ms": 50.0, "probes": 1.0}
    assert data.numbers == {"overlapping": 0.0, "checked": 19.0, "items": 20.0, "min_checked": 0.9}
    assert resuming.numbers == {"kills": 2.0, "steps": 16.0, "differences": 0.0}
    parents = storage.read(case.folder / "verdict", Verdict).manifest.parents
    sealed = {role: storage.read_manifest(uri).digest for role, uri in case.uris.items()}
    certificate = storage.read_manifest(case.folder / "certificate").digest
    assert parents.items() >= {**sealed, "certificate": certificate}.items()


def test_a_policy_that_asks_for_none_of_it_decides_none_of_it(case: Case) -> None:
    candidate, base = (storage.read(uri, EvalReport) for uri in case.reports.values())
    verdict = decide(candidate, {"base": base}, GateConfig(metric="facts/exact_match"), "m")
    assert verdict.passed and not set(NAMES) & {rule.name for rule in verdict.rules}
    assert verdict.approvers == ()


def test_evidence_that_is_missing_passes_nothing(case: Case) -> None:
    candidate, base = (storage.read(uri, EvalReport) for uri in case.reports.values())
    verdict = decide(candidate, {"base": base}, EVERYTHING, "m")
    assert [rule.name for rule in verdict.rules if not rule.passed] == NAMES


@pytest.mark.parametrize(("role", "name"), [("endpoint", NAMES[0]), ("data", NAMES[1])])
def test_each_missing_piece_of_evidence_alone_blocks(case: Case, role: str, name: str) -> None:
    del case.uris[role]
    assert case.blocked_by()[0] == [name]


def test_a_slow_answer_alone_blocks(case: Case) -> None:
    case.endpoint(latency_ms=50.1)
    assert case.blocked_by() == (["latency"], "The median of 1 probes took 50.1 ms; at most 50 may.")


def test_the_rehearsal_of_another_checkpoint_alone_blocks(case: Case) -> None:
    case.endpoint(checkpoint="f" * 64)
    assert case.blocked_by()[0] == ["latency"]


def test_a_run_that_did_not_resume_alone_blocks(case: Case) -> None:
    case.certificate(passed=False, differences=("losses differ from step 4 on",))
    failed, reason = case.blocked_by()
    assert failed == ["resume certificate"] and reason.endswith("losses differ from step 4 on.")


@pytest.mark.parametrize(
    ("other", "told"), [({"data": {"rows": 4}}, "data.rows"), ({"guard": {"factor": 5}}, "guard.factor")]
)
def test_the_certificate_of_another_run_alone_blocks(case: Case, other: dict[str, Any], told: str) -> None:
    case.certificate({**CONFIG, **other})
    failed, reason = case.blocked_by()
    assert failed == ["resume certificate"] and f"has another {told}." in reason


def test_a_certificate_without_a_kill_alone_blocks(case: Case) -> None:
    case.certificate(killed_at=())
    assert case.blocked_by()[0] == ["resume certificate"]


def test_a_report_of_another_checkpoint_than_the_one_shown_blocks(case: Case) -> None:
    case.reports["candidate"] = case.reports["base"]
    assert "evidence" in case.blocked_by()[0]


def test_altered_evidence_is_none(case: Case) -> None:
    (case.folder / "data" / "report.json").write_text("[]")
    with pytest.raises(IntegrityError, match=r"report\.json is altered"):
        case.verdict()
    case.summary("1" * 64, "2" * 64)
    case.uris["endpoint"] = case.uris["data"]
    with pytest.raises(MismatchError, match="is of kind data_summary, and endpoint is wanted"):
        case.verdict()
