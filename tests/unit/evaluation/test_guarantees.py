"""Each condition besides scores blocks a candidate on its own, and so does the lack of its evidence."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from headrace import storage
from headrace.artifacts import (
    MANIFEST,
    Checkpoint,
    DataSummary,
    Endpoint,
    EvalReport,
    Manifest,
    ResumeCertificate,
    Verdict,
)
from headrace.config import encode
from headrace.data.provenance import STAGES, Given, Stage
from headrace.errors import IntegrityError, MismatchError
from headrace.evaluation.details import DETAILS
from headrace.evaluation.gate import decide, judge
from headrace.evaluation.guarantees import CERTIFIED_CONFIG
from headrace.evaluation.policy import GateConfig
from headrace.storage import Stored
from tests.unit.evaluation.conftest import FINGERPRINT

CONFIG: dict[str, Any] = {
    "steps": 100,
    "checkpoint_every_steps": 50,
    "log_every_steps": 5,
    "guard": {"skips": 9, "factor": 4},
}
CONFIG |= {"data": {"rows": 8}}
EVERYTHING = GateConfig(
    metric="facts/exact_match", max_latency_ms=50.0, min_items_checked=0.9, certificate="", approvers=("ada",)
)
PRETRAINED = Stage(init=None, shards={"text": Given(digest="3" * 64, pieces=("1" * 64,))})
FINETUNED = Stage(init="4" * 64, shards={"asked": Given(digest="2" * 64)})
NAMES = ["latency", "decontaminated data", "resume certificate"]


class Case:
    """A candidate with all the evidence that a policy can ask for, which tests take apart."""

    def __init__(self, folder: Path, report: Callable[..., Stored[EvalReport]]) -> None:
        self.folder, self.report = folder, report
        self.train(PRETRAINED, FINETUNED)
        self.summary("1" * 64, "2" * 64)
        self.endpoint()
        self.certificate()
        self.reports = {
            "candidate": report(self.digest, facts=[1.0] * 90 + [0.0] * 10).path,
            "base": report("old", facts=[1.0] * 20 + [0.0] * 80).path,
        }
        self.uris = {role: folder / role for role in ("checkpoint", "endpoint", "data")}

    def train(self, *stages: Stage) -> None:
        facts = Checkpoint(
            step=1, tokens_seen=1, labels_seen=1, model={}, tokenizer="t", mask="prefix", config=CONFIG, loss=None
        )
        self.digest = self.seal("checkpoint", facts, {}, state={STAGES: encode(stages)}).digest

    def seal(self, name: str, facts: Any, parents: dict[str, str], **files: Any) -> Manifest:
        with storage.writing(self.folder / name) as tree:
            for file, values in files.items():
                (tree.path / f"{file}.json").write_text(json.dumps(values))
            return tree.commit(facts, parents)

    def summary(self, *pieces: str, unchecked: int = 1, name: str = "data", **changes: Any) -> None:
        numbers = {"documents": 9, "tokens": 9, "exact": 0, "near": 0, "quarantined": 0}
        found: dict[str, Any] = {"contaminated": 2, "overlapping": 2, "items": 20}
        found["item_files"] = (FINGERPRINT, "6" * 64)
        facts = DataSummary(**{**numbers, **found, **changes}, mixture_off_points=None)
        parents = {f"text_{number}": piece for number, piece in enumerate(pieces)} | {"exclusions": "9" * 64}
        self.seal(name, facts, parents, report={"unchecked": unchecked})

    def endpoint(self, **changes: Any) -> None:
        facts = Endpoint(
            model="m", checkpoint=self.digest, url="u", answers={"a": "b"}, ready_seconds=1.0, latency_ms=50.0
        )
        self.seal("endpoint", dataclasses.replace(facts, **changes), {})

    def certificate(self, config: dict[str, Any] = CONFIG, **changes: Any) -> None:
        facts = ResumeCertificate(
            recipe="demo", stage="instruct", config="c", code="0.1.0+abc", torch="2", device="cpu", steps=16,
            killed_at=(3, 9), digests={}, differences=(), passed=True,
        )  # fmt: skip
        short = {
            **config,
            "steps": 16,
            "checkpoint_every_steps": 4,
            "log_every_steps": 1,
            "guard": {**config["guard"], "skips": 1},
        }
        name = CERTIFIED_CONFIG.removesuffix(".json")
        self.seal("certificate", dataclasses.replace(facts, **changes), {}, **{name: short})

    def verdict(self, policy: GateConfig = EVERYTHING) -> Verdict:
        policy = dataclasses.replace(policy, certificate=str(self.folder / "certificate"))
        manifest = judge(self.folder / "verdict", self.reports, "m", policy, evidence=self.uris)
        facts: Verdict = manifest.facts
        return facts

    def blocked_by(self) -> tuple[list[str], str]:
        """Rules that failed, and why the first of them did."""
        verdict = self.verdict()
        failed = [rule for rule in verdict.rules if not rule.passed]
        assert verdict.passed == (not failed)
        return [rule.name for rule in failed], failed[0].reason if failed else ""


def reseal(uri: Path, files: dict[str, Any]) -> None:
    """Seal an artifact anew with other JSON in some of its files, or without those of None."""
    facts = storage.read_manifest(uri).facts
    kept = {path.relative_to(uri): path.read_bytes() for path in uri.rglob("*") if path.is_file()}
    shutil.rmtree(uri)
    with storage.writing(uri) as tree:
        for name, data in kept.items():
            values = files.get(str(name), data)
            if values is not None and str(name) != MANIFEST:
                (tree.path / name).parent.mkdir(exist_ok=True)
                (tree.path / name).write_bytes(data if values is data else json.dumps(values).encode())
        tree.commit(facts)


@pytest.fixture
def case(tmp_path: Path, report: Callable[..., Stored[EvalReport]]) -> Case:
    return Case(tmp_path, report)


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


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"overlapping": 3}, "1 documents that were kept overlap"),
        ({"contaminated": 0}, "2 documents that were kept overlap"),
        ({"unchecked": 3}, "17 of 20 items were looked for, 90% at least"),
        ({"items": 0, "unchecked": 0}, "0 of 0 items were looked for"),
    ],
)
def test_data_that_is_not_clean_alone_blocks(case: Case, changes: dict[str, int], told: str) -> None:
    case.summary("1" * 64, "2" * 64, **changes)
    failed, reason = case.blocked_by()
    assert failed == ["decontaminated data"] and told in reason


def test_a_clean_report_that_looked_for_other_items_alone_blocks(case: Case) -> None:
    case.summary("1" * 64, "2" * 64, overlapping=0, contaminated=0, unchecked=0, item_files=("6" * 64,))
    failed, reason = case.blocked_by()
    looked = storage.read_manifest(case.folder / "data").digest[:12]
    assert failed == ["decontaminated data"]
    assert reason == (
        f"facts was measured on facts ({FINGERPRINT[:12]}), whose items the data report {looked} did not look for. "
        "Report on the data with them."
    )


def test_every_report_must_have_looked_for_what_was_measured(case: Case) -> None:
    case.summary("2" * 64)
    case.summary("1" * 64, name="earlier", item_files=())
    policy = dataclasses.replace(EVERYTHING, data_reports=(str(case.folder / "earlier"),))
    assert not case.verdict(policy).passed
    case.summary("1" * 64, name="earlier")
    assert case.verdict(policy).passed


def test_every_file_of_a_task_must_have_been_looked_for(case: Case) -> None:
    asked = json.loads((case.reports["candidate"] / DETAILS).read_text())
    asked["files"]["facts"].append("7" * 64)
    reseal(case.reports["candidate"], {DETAILS: asked})
    failed, reason = case.blocked_by()
    assert failed == ["decontaminated data"] and reason.startswith("facts was measured on facts (777777777777)")


def test_a_report_that_does_not_say_what_it_was_measured_on_alone_blocks(case: Case) -> None:
    reseal(case.reports["candidate"], {DETAILS: None})
    assert case.blocked_by() == (
        ["decontaminated data"],
        "The candidate's report does not say which files it was measured on.",
    )


@pytest.mark.parametrize(("reported", "stage", "name"), [("1", 2, "asked 2222"), ("2", 1, "text 3333")])
def test_data_of_any_stage_that_nobody_reported_on_alone_blocks(
    case: Case, reported: str, stage: int, name: str
) -> None:
    case.summary(reported * 64)
    failed, reason = case.blocked_by()
    assert failed == ["decontaminated data"]
    assert reason.startswith(f"There is no report on {name}")
    assert reason.endswith(f"which stage {stage} of 2 was trained on.")


def test_reports_made_at_different_times_cover_the_stages_together_and_each_must_be_clean(case: Case) -> None:
    case.summary("2" * 64)
    case.summary("1" * 64, name="earlier", items=10)
    policy = dataclasses.replace(EVERYTHING, data_reports=(str(case.folder / "earlier"),))
    verdict = case.verdict(policy)
    assert verdict.passed
    data = next(rule for rule in verdict.rules if rule.name == "decontaminated data")
    assert data.numbers == {"overlapping": 0.0, "checked": 9.0, "items": 10.0, "min_checked": 0.9}
    for fault in ({"items": 9}, {"overlapping": 3}):
        case.summary("1" * 64, name="earlier", **fault)
        assert not case.verdict(policy).passed


def test_weights_from_elsewhere_block_until_somebody_vouches_for_them(case: Case) -> None:
    imported = "e" * 64
    case.train(dataclasses.replace(FINETUNED, init=imported))
    case.reports["candidate"] = case.report(case.digest, facts=[1.0] * 90 + [0.0] * 10).path
    case.endpoint()
    failed, reason = case.blocked_by()
    assert failed == ["decontaminated data"] and reason.startswith("Nobody recorded what eeeeeeeeeeee")
    assert case.verdict(dataclasses.replace(EVERYTHING, vouched=(imported,))).passed


def test_a_checkpoint_that_knows_no_data_passes_nothing(case: Case) -> None:
    case.train()
    assert "decontaminated data" in case.blocked_by()[0]


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
    (case.folder / "data" / "report.json").write_text('{"unchecked": 0}')
    with pytest.raises(IntegrityError, match=r"report\.json is altered"):
        case.verdict()
    case.summary("1" * 64, "2" * 64)
    case.uris["endpoint"] = case.uris["data"]
    with pytest.raises(MismatchError, match="is a data_summary, and a endpoint is wanted"):
        case.verdict()
