"""What a candidate was trained on blocks it, unless reports on all of it looked for what it is measured on."""

import dataclasses
import json

import pytest

from headrace import storage
from headrace.artifacts import LookedFor
from headrace.evaluation.details import DETAILS
from tests.evidence import EVERYTHING, FINETUNED, FINGERPRINT, Case, reseal


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"overlapping": 3}, "1 documents that were kept overlap"),
        ({"contaminated": 0}, "2 documents that were kept overlap"),
        ({"unchecked": 3}, "17 of 20 items of facts were looked for, 90% at least"),
        ({"items": 0, "unchecked": 0}, "0 of 0 items of facts were looked for"),
    ],
)
def test_data_that_is_not_clean_alone_blocks(case: Case, changes: dict[str, int], told: str) -> None:
    case.summary("1" * 64, "2" * 64, **changes)
    failed, reason = case.blocked_by()
    assert failed == ["decontaminated data"] and told in reason


def test_a_clean_report_that_looked_for_other_items_alone_blocks(case: Case) -> None:
    case.summary("1" * 64, "2" * 64, overlapping=0, contaminated=0, unchecked=0, files=("6" * 64,))
    failed, reason = case.blocked_by()
    looked = storage.read_manifest(case.folder / "data").digest[:12]
    assert failed == ["decontaminated data"]
    assert reason == (
        f"facts was measured on facts ({FINGERPRINT[:12]}), whose items the data report {looked} did not look for. "
        "Report on the data with them."
    )


def test_every_report_must_have_looked_for_what_was_measured(case: Case) -> None:
    case.summary("2" * 64)
    case.summary("1" * 64, name="earlier", files=())
    policy = dataclasses.replace(EVERYTHING, data_reports=(str(case.folder / "earlier"),))
    assert not case.verdict(policy).passed
    case.summary("1" * 64, name="earlier")
    assert case.verdict(policy).passed


def test_items_of_one_task_do_not_stand_in_for_those_of_another(case: Case) -> None:
    """Nearly all that there is was looked for, but next to nothing of what was measured."""
    files = {"heldout": (FINGERPRINT,), "other": ("6" * 64,)}
    counts = {"heldout": (10, 9), "other": (990, 0)}
    looked_for = {
        split: LookedFor(files=told, items=counts[split][0], unchecked=counts[split][1])
        for split, told in files.items()
    }
    case.summary("1" * 64, "2" * 64, items=1000, looked_for=looked_for)
    failed, reason = case.blocked_by()
    assert failed == ["decontaminated data"] and "1 of 10 items of facts were looked for" in reason


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
